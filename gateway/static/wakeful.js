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
 * is seen once. What the server forgot meanwhile is told by `onGap`. Types are in `wakeful.d.ts` beside it.
 */

import { Connection } from "./wakeful-connection.js";
import { WakefulError } from "./wakeful-error.js";
import { Subscriptions } from "./wakeful-subscriptions.js";

export { wakefulAgent } from "./wakeful-agui.js";
export { WakefulError };

const APPROVAL = "wakeful.approval";

/** Return a random id; `randomUUID` is for pages of https and of this machine only. */
export function newId() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return crypto.randomUUID?.() ?? Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

const messagesOf = (message) => (typeof message === "string" ? [{ role: "user", content: message }] : message);

/**
 * A connection that is kept. `token` is a string, or a function (also async) that makes one: one that fails is
 * called again later, one that throws a `WakefulError` ends the client. `onState(state, error)` is told of
 * `connecting`, `open`, `away` and `ended`. Times are milliseconds.
 */
export class Wakeful {
  #connection;
  #subscriptions = new Subscriptions();

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
    const options = { url, token, name, WebSocket, firstDelay, longestDelay, timeout, patience, onState };
    this.#connection = new Connection(options, this.#subscriptions);
    this.#subscriptions.over(this.#connection);
  }

  /** End the connection and every subscription. */
  close() {
    this.#connection.close();
  }

  /** What the server said of itself when it accepted the connection, or null while there is none. */
  get accepted() {
    return this.#connection.accepted;
  }

  /**
   * Follow a channel. `onEvent(event, { offset, tags })` is called for each publication, `onGap({ epoch,
   * offset })` where the server forgot some, `onError(error)` when there will be no more. `maxRate` bounds
   * the publications per second, by merging; `events` are patterns of their types.
   * Returns { ready, unsubscribe, position }; `ready` is settled once nothing is missed any more.
   */
  subscribe(channel, { onEvent = () => {}, onGap = () => {}, onError = () => {}, maxRate, events } = {}) {
    const wish = maxRate === undefined && events === undefined ? undefined : { maxRate, events };
    return this.#subscriptions.follow(channel, { onEvent, onGap, onError }, wish);
  }

  /**
   * Follow what agents ask of this client's user, and what became of it, from now on.
   * `onNotice({ change, agent, conversation, run, interrupts, decisions })` is called for each: `requested`
   * with interrupts, which `resume` answers, or `answered` with decisions. The rest is as in `subscribe`.
   */
  notices({ onNotice = () => {}, onGap, onError = () => {} } = {}) {
    const onEvent = ({ name, value }, { tags }) => {
      if (name !== APPROVAL) return;
      const { change, runId: run, interrupts = [], decisions = [] } = value;
      onNotice({ change, agent: tags.agent, conversation: tags.conv, run, interrupts, decisions });
    };
    let following = null;
    let left = false;
    const begin = async () => {
      await this.#connection.arrived();
      if (left) return;
      const channel = Object.keys(this.accepted.subs ?? {}).find((name) => name.startsWith("user:"));
      if (!channel) throw new WakefulError("the token needs the scope agent:read to follow notices", { code: 103 });
      following = this.subscribe(channel, { onEvent, onGap, onError });
      await following.ready;
    };
    const ready = begin();
    ready.catch((error) => following ?? onError(error)); // its subscription tells it otherwise
    return {
      ready,
      position: () => following?.position() ?? { epoch: "", offset: 0 },
      unsubscribe: () => {
        left = true;
        following?.unsubscribe();
      },
    };
  }

  /** Call a method. With `repeat` it is called again when the connection broke before the answer. */
  async rpc(method, data = {}, { repeat = false } = {}) {
    return (await this.#connection.call({ rpc: { method, data } }, { repeat })).rpc?.data;
  }

  /** Return { publications, epoch, offset }: at most `limit` of what a channel said, -1 for all of it. */
  async history(channel, { limit = -1, since, reverse } = {}) {
    const command = { history: { channel, limit, since, reverse } };
    const found = (await this.#connection.call(command, { repeat: true })).history;
    return { publications: [], epoch: "", offset: 0, ...found };
  }

  /** Send a text or messages; resolves once they are durable. They are sent once, however often it takes. */
  send(agent, message, { conversation, clientMessageId = newId(), ...more } = {}) {
    const data = { agent, conversation, messages: messagesOf(message), clientMessageId, ...more };
    return this.rpc("agent.send", data, { repeat: true });
  }

  /** End a run. */
  cancel(run) {
    return this.rpc("run.cancel", { run }, { repeat: true });
  }

  /** Let a text or messages join a run at its next step. */
  steer(run, message, { clientMessageId = newId() } = {}) {
    return this.rpc("run.steer", { run, messages: messagesOf(message), clientMessageId }, { repeat: true });
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
    const token = await this.#connection.token();
    const authorization = token ? { authorization: `Bearer ${token}` } : {};
    const address = this.#connection.base + path.replace(/^\/+/, "");
    return fetch(address, { ...more, headers: { ...authorization, ...headers } });
  }
}
