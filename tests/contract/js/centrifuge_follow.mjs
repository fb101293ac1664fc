// Follows an agent with the official SDK: sends a message, prints what happens as lines of JSON.
import { Centrifuge } from "centrifuge";
import WebSocket from "ws";

const [url, agent, text, token] = process.argv.slice(2);
const say = (...what) => console.log(JSON.stringify(what));
const client = new Centrifuge(`${url.replace("http", "ws")}/connection/websocket`, {
  websocket: WebSocket,
  token: token ?? "",
  minReconnectDelay: 50,
  maxReconnectDelay: 200,
});
client.on("connected", () => say("connected"));
client.on("connecting", ({ code }) => say("connecting", code));
client.on("disconnected", ({ code, reason }) => {
  say("disconnected", code, reason);
  process.exit(0);
});

const subscription = client.newSubscription(`conv:${agent}`, { positioned: true, recoverable: true });
let run;
let told = "";
const early = [];
const take = ({ data, tags, offset }) => {
  if (tags.run !== run) return;
  if (data.type === "TEXT_MESSAGE_CONTENT") told += data.delta;
  say("event", offset, data.type);
  if (data.type === "RUN_FINISHED" || data.type === "RUN_ERROR") {
    say("told", told);
    client.disconnect();
  }
};
subscription.on("publication", (publication) => (run ? take(publication) : early.push(publication)));
subscription.on("subscribed", ({ recovered, wasRecovering, streamPosition }) => {
  say("subscribed", wasRecovering, recovered, streamPosition?.epoch !== undefined);
});
subscription.subscribe();
client.connect();
await subscription.ready();
if (text !== "") {
  const message = { role: "user", content: text };
  const sending = { agent, messages: [message], clientMessageId: `cm-${agent}` };
  const send = () => client.rpc("agent.send", sending).catch((error) => {
    if (error.code >= 100) throw error;
    return client.ready().then(send); // the connection broke: the id makes it safe to send again
  });
  const { data } = await send();
  say("sent", data.disposition);
  run = data.run;
  early.forEach(take);
}
