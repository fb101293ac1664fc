// Our own module against a server that keeps it waiting, and behind a path; prints what comes of it.
import { createServer } from "node:http";
import WebSocket from "ws";
import { Wakeful, WakefulError } from "./wakeful_module.mjs";

const [what, url] = process.argv.slice(2);
const say = (...words) => console.log(JSON.stringify(words));
const SETTINGS = { WebSocket, firstDelay: 10, longestDelay: 50 };

/** Follow a channel until the server has something to say there. */
async function follow() {
  const client = new Wakeful({ url, ...SETTINGS, timeout: 500 });
  client.subscribe("conv:c", {
    onEvent: (_, { offset }) => {
      say("event", offset);
      client.close();
    },
  });
}

/** Ask again and again for what is never answered. */
async function ask() {
  const client = new Wakeful({ url, ...SETTINGS, timeout: 1000, patience: 2500 });
  await client.agents().catch((error) => say("failed", error.lost));
  client.close();
}

/** Hold a token that is good for years. */
async function hold() {
  const client = new Wakeful({ url, ...SETTINGS, token: () => "t" });
  await client.rpc("first");
  await new Promise((resolve) => setTimeout(resolve, 50)); // what is renewed at once is renewed by then
  await client.rpc("second");
  say("held");
  client.close();
}

/** Fetch from a server at a path. */
async function fetches() {
  const server = createServer((request, response) => response.end(request.url));
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const host = `127.0.0.1:${server.address().port}`;
  for (const at of [`http://${host}`, `http://${host}/deep/`, `ws://${host}/deep/v1/ws`]) {
    const client = new Wakeful({ url: at, ...SETTINGS });
    say("fetched", await (await client.fetch("/v1/capabilities")).text());
    client.close();
  }
  server.close();
  server.closeAllConnections();
}

/** Make tokens by a function that fails twice, then succeeds; tell what the client says of it. */
async function token() {
  const failures = ["no route", "no answer"];
  const make = () => {
    if (failures.length) throw new Error(failures.shift());
    return "good";
  };
  const onState = (state, error) => say(state, error?.message ?? null);
  const client = new Wakeful({ url, ...SETTINGS, token: make, onState });
  await client.rpc("first");
  client.close();
}

/** Make no token: it is denied. */
async function denied() {
  const make = () => {
    throw new WakefulError("sign in again", { code: 401 });
  };
  const onState = (state, error) => say(state, error?.code ?? null);
  const client = new Wakeful({ url, ...SETTINGS, token: make, onState });
  await client.rpc("first").catch((error) => say("failed", error.message));
}

/** Wait for a token that never comes. */
async function late() {
  const onState = (state, error) => {
    say(state, error?.message ?? null);
    if (state === "away") client.close();
  };
  const client = new Wakeful({ url, ...SETTINGS, timeout: 50, token: () => new Promise(() => {}), onState });
}

/** Renew a token by a function that fails in between. */
async function renews() {
  const made = ["first", null, "second"];
  const make = () => {
    const text = made.shift();
    if (!text) throw new Error("not now");
    return text;
  };
  const client = new Wakeful({ url, ...SETTINGS, token: make });
  await client.rpc("after");
  say("held");
  client.close();
}

/** Follow what needs a person. */
async function notices() {
  const client = new Wakeful({ url, ...SETTINGS });
  const following = client.notices({
    onNotice: ({ change, agent, conversation, run, interrupts, decisions }) =>
      say(change, agent, conversation, run, interrupts.length, decisions.length),
    onGap: ({ offset }) => {
      say("gap", offset);
      client.close();
    },
    onError: (error) => say("error", error.code),
  });
  await following.ready.catch(() => client.close());
}

await { follow, ask, hold, fetches, token, denied, late, renews, notices }[what]();
