/**
 * A client of wakeful's realtime protocol, for browsers and Node. No dependencies.
 *
 *   import { Wakeful } from "http://127.0.0.1:8283/static/wakeful.js";
 *   const client = new Wakeful({ url: "http://127.0.0.1:8283" });
 *   const following = client.subscribe(`conv:${agent}`, { onEvent: (event) => console.log(event) });
 *   await following.ready;
 *   await client.send(agent, "hello");
 *
 * A connection that breaks is made again, and every subscription goes on where it stood: each publication
 * is seen once. What the server forgot meanwhile is told by `onGap`.
 */

export { wakefulAgent } from "./wakeful-agui.js";

const PATH = "/v1/ws";
const SUBPROTOCOL = "wakeful.v1.json";
const RESUBSCRIBE = 2500; // from this code on a subscription that the server ended is asked for again
const TOKEN_EXPIRED = 109;
const QUIET_MS = 10_000; // beyond the server's interval of pings, until it counts as gone
const RENEW_AT = 0.8; // of the time that a token has left
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds; longer ones are over at once

/** A request failed. `code`: 100 to 113 are the protocol's, from 400 on HTTP's, 0 means the connection. */
export class WakefulError extends Error {
  constructor(message, { code = 0, temporary = false, lost = false } = {}) {
    super(message);
    this.name = "WakefulError";
    this.code = code;
    this.temporary = temporary;
    this.lost = lost; // the connection broke before the answer: the server may have acted
  }
}

/** Whether a close code forbids to connect again: the rule of every Centrifuge SDK. */
const isTerminal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;

/** Return a random id; `randomUUID` is for pages of https and of this machine only. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return crypto.randomUUID?.() ?? Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Call what was given to us; what it throws is its owner's, and ends nothing here. */
function call(action, ...args) {
  try {
    action(...args);
  } catch (error) {
    setTimeout(() => {
      throw error;
    });
  }
}

/** Return the websocket's address of a server at an http(s) or ws(s) URL. */
function address(url) {
  const found = new URL(url, globalThis.location?.href);
  if (found.protocol === "http:" || found.protocol === "https:") {
    found.pathname = found.pathname.replace(/\/+$/, "") + PATH;
    found.protocol = found.protocol === "http:" ? "ws:" : "wss:";
  }
  return found.href;
}

/** Return the address of the same server below which its routes are. */
function home(url) {
  const { protocol, host, pathname } = new URL(url, globalThis.location?.href);
  const path = pathname.replace(/(\/v1\/ws|\/connection\/websocket)?\/*$/, "");
  return `${protocol.replace("ws", "http")}//${host}${path}/`;
}

/** A connection that is kept. `token` is a string, or a function (also async) that makes one. */
export class Wakeful {
  #url;
  #base;
  #token;
  #options;
  #socket = null;
  #accepted = null;
  #number = 0;
  #tries = 0;
  #waiting = new Map(); // replies, by the number of their command
  #arrivals = new Set(); // who waits for a connection
  #subscriptions = new Map();
  #timers = new Map();
  #ended = null;

  constructor({
    url = globalThis.location?.origin,
    token,
    name = "wakeful-js",
    WebSocket = globalThis.WebSocket,
    firstDelay = 250,
    longestDelay = 20_000,
    timeout = 30_000,
    patience = 600_000,
    onState = () => {},
  } = {}) {
    this.#base = home(url);
    this.#url = address(url);
    this.#token = token;
    this.#options = { name, WebSocket, firstDelay, longestDelay, timeout, patience, onState };
    this.#connect();
  }

  /** End the connection and every subscription. */
  close() {
    this.#end(new WakefulError("the client was closed"));
  }

  /** What the server said of itself when it accepted the connection, or null while there is none. */
  get accepted() {
    return this.#accepted;
  }

  /**
   * Follow a channel. `onEvent(event, { offset, tags })` is called for each publication, `onGap({ epoch,
   * offset })` where the server forgot some, `onError(error)` when there will be no more. `maxRate` bounds
   * the publications per second, by merging; `events` are patterns of their types.
   * Returns { ready, unsubscribe, position }; `ready` is settled once nothing is missed any more.
   */
  subscribe(channel, { onEvent = () => {}, onGap = () => {}, onError = () => {}, maxRate, events } = {}) {
    const follower = { onEvent, onGap, onError };
    let subscription = this.#subscriptions.get(channel);
    if (subscription && (maxRate !== undefined || events !== undefined)) {
      throw new WakefulError(`${channel} is followed already; its first subscriber chose what it delivers`);
    }
    if (!subscription) {
      subscription = { channel, epoch: "", offset: 0, followers: new Set(), joined: false, data: undefined };
      if (maxRate !== undefined || events !== undefined) subscription.data = { maxRate, events };
      subscription.ready = new Promise((resolve, reject) => Object.assign(subscription, { resolve, reject }));
      subscription.ready.catch(() => {}); // whoever waits for it hears of it
      this.#subscriptions.set(channel, subscription);
      if (this.#ended) this.#drop(subscription, this.#ended);
      else if (this.#accepted) this.#join(subscription);
    }
    subscription.followers.add(follower);
    return {
      ready: subscription.ready,
      position: () => ({ epoch: subscription.epoch, offset: subscription.offset }),
      unsubscribe: () => this.#leave(subscription, follower),
    };
  }

  /** Call a method. With `repeat` it is called again when the connection broke before the answer. */
  async rpc(method, data = {}, { repeat = false } = {}) {
    return (await this.#call({ rpc: { method, data } }, { repeat })).rpc?.data;
  }

  /** Return { publications, epoch, offset }: at most `limit` of what a channel said, -1 for all of it. */
  async history(channel, { limit = -1, since, reverse } = {}) {
    const found = (await this.#call({ history: { channel, limit, since, reverse } }, { repeat: true })).history;
    return { publications: [], epoch: "", offset: 0, ...found };
  }

  /** Send a text or messages; resolves once they are durable. They are sent once, however often it takes. */
  send(agent, message, { conversation, clientMessageId = newId(), ...more } = {}) {
    const messages = typeof message === "string" ? [{ role: "user", content: message }] : message;
    return this.rpc("agent.send", { agent, conversation, messages, clientMessageId, ...more }, { repeat: true });
  }

  /** End a run. */
  cancel(run) {
    return this.rpc("run.cancel", { run }, { repeat: true });
  }

  /** Let a text or messages join a run at its next step. */
  steer(run, message, { clientMessageId = newId() } = {}) {
    const messages = typeof message === "string" ? [{ role: "user", content: message }] : message;
    return this.rpc("run.steer", { run, messages, clientMessageId }, { repeat: true });
  }

  /** Answer all open interrupts of { agent } or { conversation }: [{ interruptId, status, payload }]. */
  resume(where, resume) {
    return this.rpc("run.resume", { ...where, resume }, { repeat: true });
  }

  /** Give an agent the result of a call that this client ran; `more` may name { agent, status, further }. */
  toolResult(toolCallId, content, more = {}) {
    return this.rpc("tool.result", { toolCallId, content, ...more }, { repeat: true });
  }

  /** Change a memory block; with { ifVersion } only where it still has that version. */
  updateMemory(agent, label, value, more = {}) {
    return this.rpc("memory.update", { agent, label, value, ...more });
  }

  /** Measure what fills the window of { agent } or { conversation }. */
  context(where) {
    return this.rpc("context.get", where, { repeat: true });
  }

  /** List agents. */
  agents(wish = {}) {
    return this.rpc("agent.list", wish, { repeat: true });
  }

  /** Fetch a path of the server's REST routes with this client's token. */
  async fetch(path, { headers, ...more } = {}) {
    const token = await this.#made();
    const authorization = token ? { authorization: `Bearer ${token}` } : {};
    return fetch(this.#base + path.replace(/^\/+/, ""), { ...more, headers: { ...authorization, ...headers } });
  }

  // --- the connection ---------------------------------------------------------------------------

  async #made() {
    return typeof this.#token === "function" ? await this.#token() : this.#token;
  }

  async #connect() {
    if (this.#ended) return;
    call(this.#options.onState, "connecting");
    let token;
    let socket;
    try {
      token = await this.#made();
      if (this.#ended) return;
      socket = new this.#options.WebSocket(this.#url, SUBPROTOCOL);
    } catch (error) {
      this.#again(new WakefulError(String(error?.message ?? error), { lost: true }));
      return;
    }
    this.#socket = socket;
    this.#watch(this.#options.timeout);
    socket.onopen = () => {
      const connect = { name: this.#options.name, version: "1", ...(token ? { token } : {}) };
      this.#exchange({ connect }).then((reply) => this.#greeted(socket, reply), (error) => this.#refused(socket, error));
    };
    socket.onmessage = (message) => this.#socket === socket && this.#received(message.data);
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason);
  }

  #greeted(socket, reply) {
    if (this.#socket !== socket) return;
    this.#accepted = reply.connect;
    this.#tries = 0;
    this.#watch();
    this.#renew(reply.connect);
    call(this.#options.onState, "open");
    for (const arrival of this.#arrivals) arrival();
    for (const subscription of this.#subscriptions.values()) this.#join(subscription);
  }

  #refused(socket, error) {
    if (error.lost || this.#socket !== socket) return; // it is over already
    const again = error.temporary || (error.code === TOKEN_EXPIRED && typeof this.#token === "function");
    if (again) socket.close();
    else this.#end(error);
  }

  #closed(socket, code, reason) {
    if (this.#socket !== socket) return;
    if (isTerminal(code)) this.#end(new WakefulError(reason || "the server ended the connection", { code }));
    else this.#again(new WakefulError(`the connection was closed: ${code} ${reason}`.trim(), { lost: true }));
  }

  /** Give up a connection that is still there. */
  #abandon(socket, error) {
    if (this.#socket !== socket) return;
    this.#again(error);
    socket.close();
  }

  #again(error) {
    this.#gone(error);
    if (this.#ended) return;
    call(this.#options.onState, "away", error);
    const { firstDelay, longestDelay } = this.#options;
    const delay = Math.min(longestDelay, firstDelay * 2 ** Math.min(this.#tries++, 16)) * (0.5 + Math.random() / 2);
    this.#timer("connect", delay, () => this.#connect());
  }

  /** The connection is no more: nothing that waits for an answer gets one. */
  #gone(error) {
    this.#socket = null;
    this.#accepted = null;
    for (const name of this.#timers.keys()) this.#timer(name);
    for (const subscription of this.#subscriptions.values()) subscription.joined = false;
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }

  #end(error) {
    if (this.#ended) return;
    this.#ended = error;
    const socket = this.#socket;
    this.#gone(error);
    socket?.close();
    for (const arrival of this.#arrivals) arrival();
    for (const subscription of [...this.#subscriptions.values()]) this.#drop(subscription, error);
    call(this.#options.onState, "ended", error);
  }

  #timer(name, delay, action) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
    if (action) this.#timers.set(name, setTimeout(action, delay));
  }

  /** A server that says nothing for this long is gone. */
  #watch(delay = this.#accepted?.ping ? this.#accepted.ping * 1000 + QUIET_MS : 0) {
    const socket = this.#socket;
    const silent = () => this.#abandon(socket, new WakefulError("the server fell silent", { lost: true }));
    this.#timer("quiet", delay, delay ? silent : undefined);
  }

  #renew({ expires, ttl }) {
    if (!expires || typeof this.#token !== "function") return;
    const renew = async () => {
      const reply = await this.#exchange({ refresh: { token: await this.#made() } });
      this.#renew(reply.refresh ?? {});
    };
    const delay = Math.min(ttl * 1000 * RENEW_AT, LONGEST_TIMER);
    this.#timer("token", delay, () => renew().catch(() => {})); // else the server closes
  }

  // --- commands and replies ---------------------------------------------------------------------

  async #call(command, { repeat = false, onReply } = {}) {
    const until = Date.now() + (repeat ? this.#options.patience : this.#options.timeout);
    for (;;) {
      await this.#arrived(until);
      try {
        return await this.#exchange(command, onReply);
      } catch (error) {
        if (!error.lost || !repeat || Date.now() >= until) throw error;
      }
    }
  }

  /** Wait for a connection. */
  #arrived(until) {
    if (this.#ended) return Promise.reject(this.#ended);
    if (this.#accepted) return undefined;
    return new Promise((resolve, reject) => {
      const arrival = () => {
        clearTimeout(timer);
        this.#arrivals.delete(arrival);
        if (this.#accepted) resolve();
        else reject(this.#ended ?? new WakefulError("there is no connection", { lost: true }));
      };
      const timer = setTimeout(arrival, until - Date.now());
      this.#arrivals.add(arrival);
    });
  }

  /** Send a command and return its reply; `onReply` sees it before anything that came after it. */
  #exchange(command, onReply) {
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      const late = () => this.#answered({ id, error: { message: "no answer came in time", lost: true } });
      const timer = setTimeout(late, this.#options.timeout);
      const settle = (then) => (value) => (clearTimeout(timer), then(value));
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject), onReply });
      this.#say(JSON.stringify({ id, ...command }));
    });
  }

  #say(frame) {
    if (this.#socket?.readyState === 1) this.#socket.send(frame);
  }

  #received(frame) {
    this.#watch();
    let messages;
    try {
      messages = String(frame).split("\n").filter(Boolean).map((line) => JSON.parse(line));
    } catch {
      this.#end(new WakefulError("the server does not speak like a wakeful server"));
      return;
    }
    for (const message of messages) {
      if (message.id) this.#answered(message);
      else if (message.push) this.#pushed(message.push);
      else if (this.#accepted?.pong) this.#say("{}");
    }
  }

  #answered(reply) {
    const waiting = this.#waiting.get(reply.id);
    if (!waiting) return;
    this.#waiting.delete(reply.id);
    if (reply.error) {
      waiting.reject(new WakefulError(reply.error.message, reply.error));
    } else {
      waiting.onReply?.(reply);
      waiting.resolve(reply);
    }
  }

  // --- subscriptions ----------------------------------------------------------------------------

  #join(subscription, tries = 0) {
    const { channel, epoch, offset, data } = subscription;
    const socket = this.#socket;
    const subscribe = { channel, data, ...(epoch ? { recover: true, epoch, offset } : {}) };
    const onReply = (reply) => this.#joined(subscription, reply.subscribe);
    this.#exchange({ subscribe }, onReply).catch((error) => {
      if (this.#subscriptions.get(channel) !== subscription) return;
      if (error.lost) return this.#abandon(socket, error); // it did not answer, so what it delivers is not known
      if (!error.temporary) this.#drop(subscription, error);
      else this.#timer(`join ${channel}`, 250 * 2 ** Math.min(tries, 6), () => this.#join(subscription, tries + 1));
    });
  }

  #joined(subscription, { epoch = "", offset = 0, recoverable, recovered, publications = [] }) {
    if (this.#subscriptions.get(subscription.channel) !== subscription) return;
    const gap = subscription.epoch && recoverable && !recovered;
    if (epoch !== subscription.epoch || gap) Object.assign(subscription, { epoch, offset: 0 });
    if (gap) for (const { onGap } of [...subscription.followers]) call(onGap, { epoch, offset });
    for (const pub of publications) this.#published(subscription, pub);
    subscription.offset = Math.max(subscription.offset, offset);
    subscription.joined = true;
    subscription.resolve();
  }

  #pushed({ channel, pub, unsubscribe }) {
    const subscription = this.#subscriptions.get(channel);
    if (!subscription?.joined) return;
    if (pub) {
      this.#published(subscription, pub);
    } else if (unsubscribe) {
      subscription.joined = false;
      if (unsubscribe.code >= RESUBSCRIBE) this.#join(subscription);
      else this.#drop(subscription, new WakefulError(unsubscribe.reason, unsubscribe));
    }
  }

  #published(subscription, { offset = 0, data, tags = {} }) {
    if (offset && offset <= subscription.offset) return; // it came before
    subscription.offset = offset || subscription.offset;
    for (const { onEvent } of [...subscription.followers]) call(onEvent, data, { offset, tags });
  }

  #leave(subscription, follower) {
    subscription.followers.delete(follower);
    if (subscription.followers.size || this.#subscriptions.get(subscription.channel) !== subscription) return;
    this.#subscriptions.delete(subscription.channel);
    this.#timer(`join ${subscription.channel}`);
    if (this.#accepted) this.#exchange({ unsubscribe: { channel: subscription.channel } }).catch(() => {});
  }

  #drop(subscription, error) {
    this.#subscriptions.delete(subscription.channel);
    subscription.reject(error);
    for (const { onError } of [...subscription.followers]) call(onError, error);
  }
}
