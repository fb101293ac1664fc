// @ag-ui/client's HttpAgent over server-sent events: one JSON line of what it saw for each run.
//
// node agui_sse.mjs URL THREAD < one JSON object per run: {user?, resume?, tools?, results?, runId?}
import { createInterface } from "node:readline";
import { HttpAgent } from "@ag-ui/client";

const [url, threadId, headers = "{}"] = process.argv.slice(2);
const agent = new HttpAgent({ url, threadId, headers: JSON.parse(headers) });
let seen = [];
agent.subscribe({
  onEvent: ({ event }) => void seen.push(event.type === "CUSTOM" ? `CUSTOM:${event.name}` : event.type),
});

for await (const line of createInterface({ input: process.stdin })) {
  const { user, resume, tools, results, runId } = JSON.parse(line);
  seen = [];
  if (user) agent.messages.push({ role: "user", ...user });
  for (const result of results ?? []) agent.messages.push({ role: "tool", ...result });
  const told = { failure: null, result: null };
  try {
    told.result = (await agent.runAgent({ runId, tools, resume })).result ?? null;
  } catch (error) {
    told.failure = error.message;
  }
  const { messages, state, pendingInterrupts: interrupts } = agent;
  console.log(JSON.stringify({ ...told, seen, messages, state, interrupts }));
}
