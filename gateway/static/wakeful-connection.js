/** One server and the websocket to it, which is made again whenever it breaks: the lower half of `wakeful.js`. */

import { WakefulError, call } from "./wakeful-error.js";

const PATH = "/v1/ws";
const SUBPROTOCOL = "wakeful.v1.json";
const TOKEN_EXPIRED = 109;
const QUIET_MS = 10_000; // beyond the server's interval of pings, until it counts as gone
const RENEW_AT = 0.8; // of the time that a token has left
const LONGEST_TIMER = 2 ** 31 - 1; // milliseconds; longer ones are over at once

/** Whether a close code forbids to connect again: the rule of every Centrifuge SDK. */
const isTerminal = (code) => (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000) || code === 1009;

/** Whether the maker of tokens says that there will be none, rather than that it failed. */
const isDenied = (error) => error?.name === "WakefulError" && !error.temporary && !error.lost;

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

/**
 * The connection. Its owner is told by `onOpen()` of each one, by `onGone()` of its end, by `onPush(push)` of
 * what comes over it unasked, and by `onEnd(error)` that there will be no other.
 */
export class Connection {
  #url;
  #token;
  #options;
  #owner;
  #socket = null;
  #number = 0;
  #tries = 0;
  #waiting = new Map(); // replies, by the number of their command
  #arrivals = new Set(); // who waits for a connection
  #timers = new Map();

  constructor({ url, token, ...options }, owner) {
    this.base = home(url);
    this.accepted = null; // what the server said of itself, while there is a connection
    this.ended = null; // why there will be none
    this.#url = address(url);
    this.#token = token;
    this.#options = options;
    this.#owner = owner;
    this.#connect();
  }

  close() {
    this.#end(new WakefulError("the client was closed"));
  }

  /** Return a token, or undefined where none is wanted. */
  async token() {
    if (typeof this.#token !== "function") return this.#token;
    return new Promise((resolve, reject) => {
      const late = () => reject(new WakefulError("no token came in time", { lost: true }));
      const timer = setTimeout(late, this.#options.timeout);
      const made = async () => this.#token(); // what it throws is a rejection, too
      made().then(resolve, reject).finally(() => clearTimeout(timer));
    });
  }

  /** Send a command as soon as there is a connection; with `repeat` again when it broke before the answer. */
  async call(command, { repeat = false } = {}) {
    const until = Date.now() + (repeat ? this.#options.patience : this.#options.timeout);
    for (;;) {
      await this.arrived(until);
      try {
        return await this.exchange(command);
      } catch (error) {
        if (!error.lost || !repeat || Date.now() >= until) throw error;
      }
    }
  }

  /** Wait for a connection, to a time of `Date.now()`. */
  arrived(until = Infinity) {
    if (this.ended) return Promise.reject(this.ended);
    if (this.accepted) return undefined;
    return new Promise((resolve, reject) => {
      const arrival = () => {
        clearTimeout(timer);
        this.#arrivals.delete(arrival);
        if (this.accepted) resolve();
        else reject(this.ended ?? new WakefulError("there is no connection", { lost: true }));
      };
      const timer = setTimeout(arrival, Math.min(until - Date.now(), LONGEST_TIMER));
      this.#arrivals.add(arrival);
    });
  }

  /** Send a command now and return its reply; `onReply` sees it before anything that came after it. */
  exchange(command, onReply) {
    const id = ++this.#number;
    return new Promise((resolve, reject) => {
      const late = () => this.#answered({ id, error: { message: "no answer came in time", lost: true } });
      const timer = setTimeout(late, this.#options.timeout);
      const settle = (then) => (value) => (clearTimeout(timer), then(value));
      this.#waiting.set(id, { resolve: settle(resolve), reject: settle(reject), onReply });
      this.#say(JSON.stringify({ id, ...command }));
    });
  }

  /** Return a function that gives up the connection of now, unless that is over already. */
  abandoner() {
    const socket = this.#socket;
    return (error) => this.#abandon(socket, error);
  }

  /** Do something later while this connection lasts; a timer of the same name is replaced, or just ended. */
  timer(name, delay, action) {
    clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
    if (action) this.#timers.set(name, setTimeout(action, delay));
  }

  // --- one connection after the other -----------------------------------------------------------

  async #connect() {
    if (this.ended) return;
    call(this.#options.onState, "connecting");
    let token;
    let socket;
    try {
      token = await this.token();
    } catch (error) {
      if (isDenied(error)) this.#end(error);
      else this.#again(new WakefulError(`no token could be made: ${error?.message ?? error}`, { lost: true }));
      return;
    }
    if (this.ended) return;
    try {
      socket = new this.#options.WebSocket(this.#url, SUBPROTOCOL);
    } catch (error) {
      this.#again(new WakefulError(String(error?.message ?? error), { lost: true }));
      return;
    }
    this.#socket = socket;
    this.#watch(this.#options.timeout);
    socket.onopen = () => {
      const connect = { name: this.#options.name, version: "1", ...(token ? { token } : {}) };
      this.exchange({ connect }).then((reply) => this.#greeted(socket, reply), (error) => this.#refused(socket, error));
    };
    socket.onmessage = (message) => this.#socket === socket && this.#received(message.data);
    socket.onerror = () => {}; // a close follows
    socket.onclose = ({ code, reason }) => this.#closed(socket, code, reason);
  }

  #greeted(socket, reply) {
    if (this.#socket !== socket) return;
    this.accepted = reply.connect;
    this.#tries = 0;
    this.#watch();
    this.#renew(reply.connect);
    call(this.#options.onState, "open");
    for (const arrival of this.#arrivals) arrival();
    this.#owner.onOpen();
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
    if (this.ended) return;
    call(this.#options.onState, "away", error);
    this.timer("connect", this.#delay(this.#tries++), () => this.#connect());
  }

  #delay(tries) {
    const { firstDelay, longestDelay } = this.#options;
    return Math.min(longestDelay, firstDelay * 2 ** Math.min(tries, 16)) * (0.5 + Math.random() / 2);
  }

  /** The connection is no more: nothing that waits for an answer gets one. */
  #gone(error) {
    this.#socket = null;
    this.accepted = null;
    for (const name of this.#timers.keys()) this.timer(name);
    this.#owner.onGone();
    const waiting = [...this.#waiting.values()];
    this.#waiting.clear();
    for (const { reject } of waiting) reject(error);
  }

  #end(error) {
    if (this.ended) return;
    this.ended = error;
    const socket = this.#socket;
    this.#gone(error);
    socket?.close();
    for (const arrival of this.#arrivals) arrival();
    this.#owner.onEnd(error);
    call(this.#options.onState, "ended", error);
  }

  /** A server that says nothing for this long is gone. */
  #watch(delay = this.accepted?.ping ? this.accepted.ping * 1000 + QUIET_MS : 0) {
    const socket = this.#socket;
    const silent = () => this.#abandon(socket, new WakefulError("the server fell silent", { lost: true }));
    this.timer("quiet", delay, delay ? silent : undefined);
  }

  /** Hand in a new token before the old one ends; where there is none the server ends the connection. */
  #renew({ expires, ttl }) {
    if (!expires || typeof this.#token !== "function") return;
    const socket = this.#socket;
    let tries = 0;
    const renew = async () => {
      try {
        const token = await this.token();
        if (this.#socket !== socket) return;
        const reply = await this.exchange({ refresh: { token } });
        this.#renew(reply.refresh ?? {});
      } catch (error) {
        const denied = isDenied(error); // by the maker of tokens, or by the server
        if (this.#socket === socket && !denied) this.timer("token", this.#delay(tries++), renew);
      }
    };
    this.timer("token", Math.min(ttl * 1000 * RENEW_AT, LONGEST_TIMER), renew);
  }

  // --- frames -----------------------------------------------------------------------------------

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
      else if (message.push) this.#owner.onPush(message.push);
      else if (this.accepted?.pong) this.#say("{}");
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
}
