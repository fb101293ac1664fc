// Follows an agent's state with our own module: puts its pieces together, and says how they came.
import { createHash } from "node:crypto";
import WebSocket from "ws";
import { Wakeful } from "./wakeful_module.mjs";

const [url, agent, wanted, last] = process.argv.slice(2);
const say = (...what) => console.log(JSON.stringify(what));
const onState = (state) => state === "ended" && process.exit(0);
const client = new Wakeful({ url, WebSocket, firstDelay: 20, longestDelay: 200, onState });
let state;

function apply({ op, path, value }) {
  const names = path.split("/").slice(1).map((name) => name.replaceAll("~1", "/").replaceAll("~0", "~"));
  const name = names.pop();
  const parent = names.reduce((at, next) => at[next], state);
  if (op === "remove") delete parent[name];
  else parent[name] = value;
}

function look(offset) {
  const blocks = state.memory.blocks;
  say("piece", offset, Object.keys(blocks).length);
  if (offset === 0 || Object.keys(blocks).length < Number(wanted)) return;
  const hash = createHash("sha256");
  for (const label of Object.keys(blocks).sort()) hash.update(blocks[label].value);
  say("whole", hash.digest("hex"));
  if (Object.values(blocks).some(({ value }) => value === last)) client.close();
}

const following = client.subscribe(`agent:${agent}:state`, {
  onEvent: (event, { offset }) => {
    if (event.type === "STATE_SNAPSHOT") state = event.snapshot;
    else if (event.type === "STATE_DELTA") event.delta.forEach(apply);
    else return;
    look(offset);
  },
  onGap: ({ offset }) => say("gap", offset),
  onError: (error) => say("error", error.code, error.message),
});
await following.ready;
say("ready");
