/** The types of `wakeful.js`. Put both beside each other, or point `paths` of your tsconfig here. */

export { wakefulAgent } from "./wakeful-agui.js";
export type { WakefulAgent, WakefulAgentConfig } from "./wakeful-agui.js";

/** JSON as it comes. */
export type Json = null | boolean | number | string | Json[] | { [name: string]: Json };

/** A request failed. `code`: 100 to 113 are the protocol's, from 400 on HTTP's, 0 means the connection. */
export class WakefulError extends Error {
  constructor(message: string, facts?: { code?: number; temporary?: boolean; lost?: boolean });
  readonly code: number;
  /** The same may be asked again later. */
  readonly temporary: boolean;
  /** The connection broke before the answer: the server may have acted. */
  readonly lost: boolean;
}

/** Return a random id. */
export function newId(): string;

/** What is used of a WebSocket: the browser's, Node's, or that of the package `ws`. */
export interface SocketClass {
  new (url: string, protocol: string): {
    readonly readyState: number;
    onopen: ((event: any) => void) | null;
    onmessage: ((event: any) => void) | null;
    onerror: ((event: any) => void) | null;
    onclose: ((event: any) => void) | null;
    send(frame: string): void;
    close(): void;
  };
}

export type State = "connecting" | "open" | "away" | "ended";

/** Times are milliseconds. */
export interface Options {
  /** `http(s)://` or `ws(s)://`; left out in a page: where the page came from. */
  url?: string | URL;
  /** A key or token, or a function that makes one. One that throws a `WakefulError` ends the client. */
  token?: string | (() => string | Promise<string>);
  name?: string;
  WebSocket?: SocketClass;
  firstDelay?: number;
  longestDelay?: number;
  /** For one answer. */
  timeout?: number;
  /** For what is asked again when a connection breaks. */
  patience?: number;
  onState?: (state: State, error?: WakefulError) => void;
}

/** What the server says of itself. */
export interface Accepted {
  client: string;
  version: string;
  ping: number;
  pong: boolean;
  expires: boolean;
  ttl?: number;
  session: string;
  node: string;
  data: { [name: string]: Json };
  subs?: { [channel: string]: Position };
}

/** A place in a channel. Offsets of another epoch mean nothing. */
export interface Position {
  epoch: string;
  offset: number;
}

/** An AG-UI 1.0 event; `type` says which. */
export interface AguiEvent {
  type: string;
  [field: string]: any;
}

export interface Tags {
  run?: string;
  conv?: string;
  agent?: string;
}

export interface Followed {
  /** Settled once nothing is missed any more. */
  readonly ready: Promise<void>;
  position(): Position;
  unsubscribe(): void;
}

export interface Follower {
  onEvent?: (event: AguiEvent, at: { offset: number; tags: Tags }) => void;
  /** The server forgot some: read the messages anew, then go on from here. */
  onGap?: (position: Position) => void;
  /** There will be no more. */
  onError?: (error: WakefulError) => void;
}

export interface Wish {
  /** Publications per second, reached by merging. */
  maxRate?: number;
  /** Patterns of types: `TEXT_MESSAGE_*`, `CUSTOM:wakeful.memory`. */
  events?: string[];
}

/** One call that waits: approve it (`tool_call`), or run it and send its result (`input_required`). */
export interface Interrupt {
  id: string;
  reason: "tool_call" | "input_required" | (string & {});
  message?: string;
  toolCallId?: string;
  responseSchema?: Json;
  expiresAt?: string;
  metadata?: { name?: string; arguments?: string; kind?: string };
}

/** The answer to one call. */
export interface Decision {
  toolCallId: string;
  approved?: boolean;
  reason?: string;
  arguments?: string;
  status?: "success" | "error";
}

export interface Notice {
  change: "requested" | "answered";
  agent: string;
  conversation: string;
  run: string;
  interrupts: Interrupt[];
  decisions: Decision[];
}

/** A message: text, or parts as REST takes them. */
export interface MessageData {
  role: "user" | "assistant" | "system";
  content: string | Json[];
  name?: string;
  otid?: string;
}

export type Text = string | MessageData[];

export interface SendMore {
  conversation?: string;
  clientMessageId?: string;
  whenBusy?: "queue" | "steer" | "interrupt" | "reject";
  maxSteps?: number;
  model?: string;
  clientTools?: Json[];
}

/** A command is durable; its results come as events. */
export interface Sent {
  accepted: true;
  disposition: "started" | "queued" | "steered";
  run: string;
  conversation: string;
  position?: number;
  replayed: boolean;
  status?: "created" | "running" | "completed" | "failed" | "cancelled";
  appliedThrough?: Position & { channel: string };
}

/** Answers to all open interrupts. */
export interface Resume {
  interruptId: string;
  status: "resolved" | "cancelled";
  payload?: {
    approved?: boolean;
    editedArgs?: Json;
    reason?: string;
    content?: string | Json[];
    status?: "success" | "error";
  };
  metadata?: Json;
}

export interface Block {
  accepted: true;
  blockId: string;
  label: string;
  value?: string;
  limit: number;
  version: number;
  appliedThrough?: Position & { channel: string };
}

/** Which conversation: one by its id, or an agent's own. */
export type Where = { agent: string; conversation?: string } | { conversation: string };

export interface AgentRow {
  id: string;
  name: string;
  model: string;
  createdAt: string;
  status: "idle" | "running" | "waiting_for_approval";
  description?: string;
  tags?: string[];
  queued: number;
  active: number;
  tokensPerSecond: number;
  firstTokenMs?: number;
  stepMs?: number;
  checkpointMs?: number;
  contextTokens?: number;
  contextLimit?: number;
}

/** A connection that is kept. */
export class Wakeful {
  constructor(options?: Options);
  readonly accepted: Accepted | null;
  close(): void;
  subscribe(channel: string, follower?: Follower & Wish): Followed;
  notices(follower?: {
    onNotice?: (notice: Notice) => void;
    onGap?: (position: Position) => void;
    onError?: (error: WakefulError) => void;
  }): Followed;
  rpc<Result = any>(method: string, data?: object, more?: { repeat?: boolean }): Promise<Result>;
  history(
    channel: string,
    wish?: { limit?: number; since?: Position; reverse?: boolean },
  ): Promise<Position & { publications: { offset: number; data: AguiEvent; tags?: Tags }[] }>;
  send(agent: string, message: Text, more?: SendMore): Promise<Sent>;
  cancel(run: string): Promise<{ accepted: true; run: string; appliedThrough?: Position & { channel: string } }>;
  steer(run: string, message: Text, more?: { clientMessageId?: string }): Promise<Sent>;
  resume(where: Where, resume: Resume[]): Promise<Sent>;
  toolResult(
    toolCallId: string,
    content: string | Json[],
    more?: {
      agent?: string;
      conversation?: string;
      status?: "success" | "error";
      further?: { toolCallId: string; content: string | Json[]; status?: "success" | "error" }[];
    },
  ): Promise<Sent>;
  updateMemory(
    agent: string,
    label: string,
    value: string,
    more?: { ifVersion?: number; limit?: number; description?: string },
  ): Promise<Block>;
  context(where: Where): Promise<{ [name: string]: any }>;
  agents(wish?: {
    limit?: number;
    after?: string;
    order?: "asc" | "desc";
    name?: string;
    query?: string;
    tags?: string[];
  }): Promise<{ agents: AgentRow[]; more: boolean }>;
  fetch(path: string, init?: RequestInit): Promise<Response>;
}
