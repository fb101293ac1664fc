// A headless `useChat`: the `ai` package's own chat class and transport, told what to do line by line.
//
//   node ai_chat.mjs <api> <chat id> [options as JSON]
//
// Each line of input is a JSON command; each is answered by one line with the state of the chat. A command
// with `until` is answered once the server has answered and the messages contain those words, while the
// request still goes on.
import { createInterface } from "node:readline";
import {
  AbstractChat,
  DefaultChatTransport,
  isToolUIPart,
  lastAssistantMessageIsCompleteWithApprovalResponses,
  lastAssistantMessageIsCompleteWithToolCalls,
} from "ai";

const [api, id, given = "{}"] = process.argv.slice(2);
const options = JSON.parse(given);

let changed = () => {};
let cut = () => {};
const data = [];
const called = [];
const finished = [];
const responses = [];

class State {
  #status = "ready";
  #messages = options.messages ?? [];
  error = undefined;
  get status() {
    return this.#status;
  }
  set status(status) {
    this.#status = status;
    changed();
  }
  get messages() {
    return this.#messages;
  }
  set messages(messages) {
    this.#messages = messages;
    changed();
  }
  pushMessage(message) {
    this.messages = [...this.#messages, structuredClone(message)];
  }
  popMessage() {
    this.messages = this.#messages.slice(0, -1);
  }
  replaceMessage(index, message) {
    this.messages = this.#messages.map((old, place) => (place === index ? structuredClone(message) : old));
  }
  snapshot(value) {
    return structuredClone(value);
  }
}

class Chat extends AbstractChat {
  constructor(init) {
    super({ ...init, state: new State() });
  }
}

// The network as a browser has it: it can break off in mid-stream.
async function network(url, init) {
  const response = await fetch(url, init);
  responses.push({
    status: response.status,
    protocol: response.headers.get("x-vercel-ai-ui-message-stream"),
    type: response.headers.get("content-type"),
  });
  changed();
  if (response.body === null) return response;
  const body = response.body.pipeThrough(
    new TransformStream({
      start(controller) {
        cut = () => controller.error(new TypeError("network error"));
      },
    }),
  );
  return new Response(body, { status: response.status, headers: response.headers });
}

const automatic = {
  approvals: lastAssistantMessageIsCompleteWithApprovalResponses,
  tools: lastAssistantMessageIsCompleteWithToolCalls,
};

const chat = new Chat({
  id,
  transport: new DefaultChatTransport({
    api,
    fetch: network,
    headers: options.headers ?? {},
    body: options.body ?? {},
  }),
  sendAutomaticallyWhen: options.auto && automatic[options.auto],
  onData: (part) => data.push(part),
  onToolCall: ({ toolCall }) => void called.push(toolCall),
  onFinish: ({ isAbort, isDisconnect, isError, finishReason }) =>
    finished.push({ isAbort, isDisconnect, isError, finishReason }),
});

function waiting(state) {
  return chat.messages.flatMap((message) => message.parts).filter((p) => isToolUIPart(p) && p.state === state);
}

let running = Promise.resolve();

const commands = {
  send: ({ text, files, message, body }) =>
    chat.sendMessage(message ?? { text, files }, body === undefined ? undefined : { body }),
  post: () => chat.sendMessage(),
  regenerate: () => chat.regenerate(),
  resume: () => chat.resumeStream(),
  approve: async ({ approved, reason }) => {
    for (const part of waiting("approval-requested")) {
      await chat.addToolApprovalResponse({ id: part.approval.id, approved, reason });
    }
  },
  output: async ({ tool, output, errorText }) => {
    for (const { toolCallId } of waiting("input-available").filter((p) => p.type === `tool-${tool}`)) {
      const state = errorText === undefined ? "output-available" : "output-error";
      await chat.addToolOutput({ state, tool, toolCallId, output, errorText });
    }
  },
  stop: () => chat.stop(),
  cut: () => cut(),
  wait: () => running,
  look: () => {},
};

function includes(words) {
  return JSON.stringify(chat.messages).includes(words);
}

function idle() {
  return new Promise((resolve) => {
    const look = () => setImmediate(() => (["ready", "error"].includes(chat.status) ? resolve() : undefined));
    changed = look;
    look();
  });
}

for await (const line of createInterface({ input: process.stdin })) {
  const { do: name, until, ...rest } = JSON.parse(line);
  const before = responses.length;
  const done = Promise.resolve(commands[name](rest));
  if (name !== "wait") running = done.catch(() => {});
  if (until === undefined) {
    await done;
    if (name !== "look") await idle();
  } else {
    await new Promise((resolve) => {
      changed = () => responses.length > before && includes(until) && resolve();
      changed();
    });
  }
  const state = { status: chat.status, error: chat.error?.message ?? null, messages: chat.messages };
  console.log(JSON.stringify({ ...state, data, called, finished, responses }));
}
