// Aborts a run of `@ag-ui/client` over our websocket at a moment, and prints what it came to.
import { AbstractAgent } from "@ag-ui/client";
import { Observable } from "rxjs";
import WebSocket from "ws";
import { Wakeful, wakefulAgent } from "./wakeful_module.mjs";

const [url, id, moment] = process.argv.slice(2);
const WakefulAgent = wakefulAgent(AbstractAgent, Observable);
const client = new Wakeful({ url, WebSocket, firstDelay: 10, longestDelay: 100 });
const agent = new WakefulAgent({ client, agent: id }).clone();
agent.addMessage({ id: crypto.randomUUID(), role: "user", content: "hello" });
const send = client.send.bind(client);
client.send = (...what) => {
  const sent = send(...what);
  if (moment === "asked") agent.abortRun();
  return sent;
};
const events = [];
const onEvent = ({ event }) => {
  events.push(event);
  if (moment === "streaming" && event.type === "TEXT_MESSAGE_CONTENT") agent.abortRun();
};
const run = agent.runAgent({}, { onEvent });
if (moment === "at once") agent.abortRun();
await run;
const last = events.at(-1);
console.log(JSON.stringify([events[0].type, last.type, last.outcome?.type]));
client.close();
