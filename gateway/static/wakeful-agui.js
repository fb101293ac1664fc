/**
 * An AG-UI agent over the websocket of `Wakeful`: `wakefulAgent(AbstractAgent, Observable)` returns a class
 * for `@ag-ui/client`, which this module therefore need not import. A run goes on after every drop.
 *
 *   import { AbstractAgent } from "@ag-ui/client";
 *   import { Observable } from "rxjs";
 *   const WakefulAgent = wakefulAgent(AbstractAgent, Observable);
 *   const agent = new WakefulAgent({ client, agent: "agent-…" });
 *   agent.addMessage({ id: "1", role: "user", content: "hello" });
 *   await agent.runAgent();
 */

const FINISHED = new Set(["completed", "failed", "cancelled"]);
const ENDS = new Set(["RUN_FINISHED", "RUN_ERROR"]);
const STARTED = { type: "RUN_STARTED", protocolVersion: "1.0" };
const STARTS = {
  TEXT_MESSAGE_START: (event) => ({ type: "TEXT_MESSAGE_END", messageId: event.messageId }),
  REASONING_START: (event) => ({ type: "REASONING_END", messageId: event.messageId }),
  REASONING_MESSAGE_START: (event) => ({ type: "REASONING_MESSAGE_END", messageId: event.messageId }),
  TOOL_CALL_START: (event) => ({ type: "TOOL_CALL_END", toolCallId: event.toolCallId }),
  STEP_STARTED: (event) => ({ type: "STEP_FINISHED", stepName: event.stepName }),
};
const keyOf = ({ type, toolCallId, messageId, stepName }) =>
  `${type.match(/^(TEXT|REASONING_MESSAGE|REASONING|TOOL_CALL|STEP)/)?.[0]} ${toolCallId ?? messageId ?? stepName}`;

/** One run: what the channel says of it becomes one stream that AG-UI's verifier accepts. */
class Telling {
  constructor(input, next) {
    this.input = input;
    this.next = next;
    this.over = false;
    this.begun = false;
    this.open = new Map(); // what ends each stream that is open, by its id
    this.steps = new Set();
    this.committed = new Map(); // messages of this run that are durable, by their ids
    this.told = new Set(); // ids of messages and calls that were begun, in this telling
    const results = input.messages.filter((message) => message.role === "tool");
    this.answered = new Set(results.map((message) => message.toolCallId)); // by this client
  }

  take(event) {
    if (this.over) return;
    if (event.type === "RUN_STARTED") this.start(event);
    else if (!this.begun && !ENDS.has(event.type)) return; // it belongs to a telling that is gone
    else if (event.type === "CUSTOM") this.custom(event);
    else if (ENDS.has(event.type)) this.end(event);
    else this.stream(event);
  }

  /** A run begins, or is told again from its start: what was said and is not durable is void. */
  start(event) {
    if (this.begun) {
      this.retract();
      return;
    }
    this.begun = true;
    this.next({ ...event, threadId: this.input.threadId, runId: this.input.runId });
  }

  end(event) {
    if (!this.begun && event.type === "RUN_FINISHED") this.start(STARTED); // it ended before it began
    this.close();
    this.over = true;
    const { threadId, runId } = this.input;
    this.next(event.type === "RUN_FINISHED" ? { ...event, threadId, runId } : event);
  }

  stream(event) {
    const { type, toolCallId, messageId, parentMessageId } = event;
    if (type === "TOOL_CALL_RESULT" && this.answered.has(toolCallId)) return;
    const owners = type === "TOOL_CALL_RESULT" ? [messageId] : [toolCallId, parentMessageId, messageId];
    if (owners.some((id) => this.committed.has(id))) return;
    const key = keyOf(event);
    if (type in STARTS) {
      if (this.open.has(key) || (type === "STEP_STARTED" && this.steps.has(key))) return;
      if (type === "STEP_STARTED") this.steps.add(key);
      if (type === "REASONING_MESSAGE_START") this.stream({ type: "REASONING_START", messageId });
      this.told.add(toolCallId ?? messageId);
      this.open.set(key, STARTS[type](event));
    } else if (/_(CONTENT|ARGS|END|FINISHED)$/.test(type)) {
      if (!this.open.has(key)) return; // its start was told before, or is gone
      if (/_(END|FINISHED)$/.test(type)) this.open.delete(key);
    } else if (type === "TOOL_CALL_RESULT") {
      this.told.add(messageId);
    }
    this.next(event);
    if (type === "REASONING_MESSAGE_END") this.stream({ type: "REASONING_END", messageId });
  }

  custom(event) {
    if (event.name === "wakeful.retract") this.retract();
    if (event.name === "wakeful.message") this.commit(event.value);
    this.next(event);
  }

  /** A message is durable: say what of it was never streamed. */
  commit({ messageId, stepId, messages }) {
    for (const message of messages) {
      if (this.committed.has(message.id)) continue;
      if (message.role === "assistant" && stepId) this.say(message);
      if (message.role === "tool" && !this.told.has(message.id)) {
        const { id: messageId, toolCallId, content } = message;
        this.stream({ type: "TOOL_CALL_RESULT", messageId, toolCallId, content, role: "tool" });
      }
      this.committed.set(message.id, this.answered.has(message.toolCallId) ? null : message);
      for (const call of message.toolCalls ?? []) this.committed.set(call.id, null);
    }
    this.committed.set(messageId.replace(/^message-/, "reasoning-"), null);
  }

  say({ id: messageId, content, toolCalls = [] }) {
    if (content && !this.told.has(messageId)) {
      this.stream({ type: "TEXT_MESSAGE_START", messageId, role: "assistant" });
      this.stream({ type: "TEXT_MESSAGE_CONTENT", messageId, delta: content });
      this.stream({ type: "TEXT_MESSAGE_END", messageId });
    }
    for (const { id: toolCallId, function: called } of toolCalls) {
      if (this.told.has(toolCallId)) continue;
      const start = { toolCallId, toolCallName: called.name, parentMessageId: messageId };
      this.stream({ type: "TOOL_CALL_START", ...start });
      if (called.arguments) this.stream({ type: "TOOL_CALL_ARGS", toolCallId, delta: called.arguments });
      this.stream({ type: "TOOL_CALL_END", toolCallId });
    }
  }

  /** Take back what is not durable: the conversation is what the client sent, and what was committed. */
  retract() {
    this.close();
    const sent = this.input.messages.filter((message) => !this.committed.has(message.id));
    const messages = [...sent, ...[...this.committed.values()].filter(Boolean)];
    this.told = new Set(this.committed.keys());
    this.next({ type: "MESSAGES_SNAPSHOT", messages });
  }

  close() {
    for (const end of [...this.open.values()].reverse()) this.next(end);
    this.open.clear();
  }
}

/** Return what of a client's history the agent has not heard: messages, or results of calls. */
function news({ messages }) {
  const last = messages.findLastIndex((message) => message.role === "assistant");
  const recent = messages.slice(last + 1);
  return {
    said: recent.filter((message) => message.role === "user"),
    results: recent.filter((message) => message.role === "tool"),
  };
}

function partOf(part) {
  if (part.type !== "image") return part;
  const { type, value, mimeType } = part.source;
  const source = type === "url" ? { type, url: value } : { type: "base64", media_type: mimeType, data: value };
  return { type: "image", source };
}

function partsOf(content) {
  return typeof content === "string" ? content : content.map(partOf);
}

function shown({ id, role, content, name }) {
  return { role, otid: id, content: partsOf(content), name };
}

/** Return the events of a finished run as the server has them stored. */
async function stored(client, agent, run) {
  const path = `/v1/agui/agents/${agent}/runs/${run}/events`;
  const response = await client.fetch(path, { headers: { accept: "text/event-stream" } });
  if (!response.ok) throw new Error(`the run is over, and its events are gone (${response.status})`);
  const lines = (await response.text()).split(/\r?\n/);
  return lines.filter((line) => line.startsWith("data:")).map((line) => JSON.parse(line.slice(5)));
}

/** Return the class of agents whose runs come over the websocket of a `Wakeful` client. */
export function wakefulAgent(AbstractAgent, Observable) {
  return class WakefulAgent extends AbstractAgent {
    /** `conversation` is one of the agent's conversations; without it the agent's own. */
    constructor({ client, agent, conversation, ...config }) {
      super({ agentId: agent, threadId: conversation ?? agent, ...config });
      this.client = client;
      this.agent = agent;
      this.conversation = conversation;
      this.activeRun = null;
      this.abort = null; // ends what `follow` shows
      this.aborted = false; // before that began
    }

    runAgent(...args) {
      this.aborted = false;
      return super.runAgent(...args);
    }

    run(input) {
      return new Observable((observer) => this.follow(input, observer));
    }

    /** End the run that is under way; one that was asked for and has no id yet ends as soon as it has one. */
    abortRun() {
      if (this.abort) this.abort();
      else this.aborted = true;
    }

    clone() {
      const made = super.clone();
      const { client, agent, conversation } = this;
      return Object.assign(made, { client, agent, conversation, activeRun: null, abort: null, aborted: false });
    }

    follow(input, observer) {
      const { client } = this;
      const channel = `conv:${this.conversation ?? this.agent}`;
      const telling = new Telling(input, (event) => observer.next(event));
      let early = []; // what came before the run's id did
      let following = null;
      let asked = false; // the agent was told what the user wants
      let aborted = false;
      const stop = () => {
        following?.unsubscribe();
        following = null;
        this.activeRun = null;
        this.abort = null;
      };
      const finish = () => {
        stop();
        observer.complete();
      };
      const cancel = () => client.cancel(this.activeRun).catch(() => {}); // it may be over
      this.abort = () => {
        aborted = true;
        if (this.activeRun) cancel();
        else if (!asked) {
          telling.take({ type: "RUN_FINISHED", outcome: { type: "cancelled" } });
          finish();
        }
      };
      if (this.aborted) {
        this.abort();
        return undefined;
      }
      const fail = (error) => {
        if (following) observer.error(error);
        stop();
      };
      const take = (event, tags) => {
        if (!following || tags.run !== this.activeRun) return;
        telling.take(event);
        const { name, value } = event;
        if (name === "wakeful.queue" && value.change === "joined" && value.runId === this.activeRun) {
          this.activeRun = value.into;
        }
        if (telling.over) finish();
      };
      const onEvent = (event, { tags, offset }) =>
        early ? early.push([event, tags, offset]) : take(event, tags);
      const flush = () => {
        const kept = early;
        early = null;
        for (const [event, tags] of kept ?? []) take(event, tags);
      };
      /** The server forgot: read what it has of the run now, then go on. */
      const onGap = async () => {
        if (!this.activeRun || early) return;
        early = [];
        const { status } = await this.start(input);
        const { publications } = await client.history(channel);
        const known = publications.filter(({ tags }) => tags.run === this.activeRun);
        const begins = known.findLastIndex(({ data }) => data.type === "RUN_STARTED");
        const last = publications.at(-1)?.offset ?? 0;
        if (begins >= 0) {
          early = early.filter(([, , offset]) => offset > last);
          for (const { data, tags } of known.slice(begins)) take(data, tags);
        } else if (FINISHED.has(status)) {
          for (const event of await stored(client, this.agent, this.activeRun)) telling.take(event);
          if (telling.over) finish();
        }
        flush();
      };
      following = client.subscribe(channel, { onEvent, onGap: () => onGap().catch(fail), onError: fail });
      const begin = async () => {
        await following.ready;
        if (!following) return; // nobody wants it any more
        asked = true;
        const { run } = await this.start(input);
        if (!following) {
          if (aborted) await client.cancel(run);
          return;
        }
        this.activeRun = run;
        if (aborted) cancel();
        flush();
      };
      begin().catch(fail);
      return stop;
    }

    /** Ask the agent what the input says; asked again it is the same run. */
    async start(input) {
      const { client, agent, conversation } = this;
      const { said, results } = news(input);
      const clientTools = input.tools?.length ? { clientTools: input.tools } : {};
      const more = { conversation, clientMessageId: input.runId, ...clientTools };
      const answered = await this.answer(input.resume, results);
      if (!answered) return client.send(agent, said.map(shown), more);
      if (said.length) await client.send(agent, said.map(shown), { ...more, whenBusy: "steer" });
      return answered;
    }

    /** Answer what the agent waits for; undefined where there is no answer. */
    async answer(resume, results) {
      const { client, agent, conversation } = this;
      if (resume?.length) return client.resume({ agent, conversation }, resume);
      if (results.length) {
        const [first, ...others] = results.map(({ toolCallId, content, error }) => ({
          toolCallId,
          content: partsOf(content),
          ...(error === undefined ? {} : { status: "error" }),
        }));
        const { toolCallId, content, ...more } = first;
        const further = others.length ? { further: others } : {};
        return client.toolResult(toolCallId, content, { agent, conversation, ...more, ...further });
      }
      return undefined;
    }
  };
}
