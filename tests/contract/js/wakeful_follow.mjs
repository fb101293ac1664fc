// Follows an agent with our own module: sends, prints what happens.
import WebSocket from "ws";
import { Wakeful } from "./wakeful_module.mjs";

const [url, agent, text, token] = process.argv.slice(2);
const say = (...what) => console.log(JSON.stringify(what));
const onState = (state, error) => {
  say("state", state, error?.code ?? null);
  if (state === "ended") process.exit(0);
};
const client = new Wakeful({ url, token, WebSocket, firstDelay: 20, longestDelay: 200, onState });
let run;
let told = "";
const early = [];
const take = (event, { tags, offset }) => {
  if (tags.run !== run) return;
  if (event.type === "TEXT_MESSAGE_CONTENT") told += event.delta;
  say("event", offset, event.type);
  if (event.type === "RUN_FINISHED" || event.type === "RUN_ERROR") {
    say("told", told);
    client.close();
  }
};
const following = client.subscribe(`conv:${agent}`, {
  onEvent: (event, at) => (run ? take(event, at) : early.push([event, at])),
  onGap: ({ offset }) => say("gap", offset),
  onError: (error) => say("error", error.code, error.message),
});
await following.ready;
say("ready");
if (text) {
  const sent = await client.send(agent, text);
  say("sent", sent.disposition);
  run = sent.run;
  early.forEach((one) => take(...one));
}
