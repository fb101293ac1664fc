// Runs an agent of `@ag-ui/client` over our websocket and prints the messages it ends with. The runs are
// one after the other: every argument after the agent is what the user says.
import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";
import WebSocket from "ws";
import { Wakeful, wakefulAgent } from "./wakeful_module.mjs";

const [url, id, ...said] = process.argv.slice(2);
const WakefulAgent = wakefulAgent(AbstractAgent, Observable);
const client = new Wakeful({ url, WebSocket, firstDelay: 10, longestDelay: 100 });
const agent = new WakefulAgent({ client, agent: id });
for (const text of said) {
  agent.addMessage({ id: crypto.randomUUID(), role: "user", content: text });
  const outcomes = [];
  await agent.runAgent({}, { onEvent: ({ event }) => void outcomes.push(event.type) });
  if (outcomes.at(0) !== "RUN_STARTED") throw new Error(`a run began with ${outcomes.at(0)}`);
}
console.log(JSON.stringify(agent.messages));
client.close();
