// Uses our AG-UI agent with the types of the real `@ag-ui/client` and `rxjs`; it is checked and never run.
import { AbstractAgent, type Message } from "@ag-ui/client";
import { Observable } from "rxjs";
import { Wakeful, wakefulAgent } from "../../../gateway/static/wakeful.js";

const client = new Wakeful({ url: "ws://127.0.0.1:8283/v1/ws" });
const WakefulAgent = wakefulAgent(AbstractAgent, Observable);
const agent = new WakefulAgent({ client, agent: "agent-1", conversation: "conv-1" });
agent.addMessage({ id: "1", role: "user", content: "hello" });
await agent.runAgent({}, { onEvent: ({ event }) => console.log(event.type) });
const last: Message | undefined = agent.messages.at(-1);
console.log(last?.content, agent.activeRun);
agent.abortRun();

// @ts-expect-error an agent needs its client
new WakefulAgent({ agent: "agent-1" });
