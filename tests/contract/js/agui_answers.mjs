// An agent of `@ag-ui/client` over our websocket asks its client: for the result of a tool that the client
// runs (and is told more by its user meanwhile), or for a decision. The client answers, and the messages are
// printed.
import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";
import WebSocket from "ws";
import { Wakeful, wakefulAgent } from "./wakeful_module.mjs";

const [url, id, kind] = process.argv.slice(2);
const WakefulAgent = wakefulAgent(AbstractAgent, Observable);
const client = new Wakeful({ url, WebSocket });
const agent = new WakefulAgent({ client, agent: id });
const parameters = { type: "object", properties: { city: { type: "string" } } };
const tools = kind !== "approval" ? [{ name: "weather", description: "Look at the sky.", parameters }] : [];
agent.addMessage({ id: crypto.randomUUID(), role: "user", content: "How is the weather?" });
await agent.runAgent({ tools });
if (kind !== "approval") {
  const [call] = agent.messages.at(-1).toolCalls;
  const source = { type: "url", value: "https://x.example/sky.png" };
  const content = kind === "image" ? [{ type: "text", text: "sunny" }, { type: "image", source }] : "sunny";
  agent.addMessage({ id: crypto.randomUUID(), role: "tool", toolCallId: call.id, content });
  if (kind === "more") agent.addMessage({ id: crypto.randomUUID(), role: "user", content: "And tomorrow?" });
  await agent.runAgent({ tools });
} else {
  const resume = agent.pendingInterrupts.map(({ id: interruptId }) => ({
    interruptId,
    status: "resolved",
    payload: { approved: true },
  }));
  await agent.runAgent({ resume });
}
console.log(JSON.stringify(agent.messages));
client.close();
