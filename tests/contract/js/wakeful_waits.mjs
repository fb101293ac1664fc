// Our own module against a server that keeps it waiting, and behind a path; prints what comes of it.
import { createServer } from "node:http";
import WebSocket from "ws";
import { Wakeful } from "./wakeful_module.mjs";

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
  const client = new Wakeful({ url, ...SETTINGS, timeout: 100, patience: 250 });
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

await { follow, ask, hold, fetches }[what]();
