// A program written for Letta's server with its own SDK: argv is the server's URL and the model to use.
import Letta, { toFile } from "@letta-ai/letta-client";

const [baseURL, model] = process.argv.slice(2);
const client = new Letta({ baseURL, apiKey: "none", maxRetries: 0 });
const say = (...words) => console.log(JSON.stringify(words));
const kinds = async (stream) => {
  const found = [];
  for await (const chunk of stream) if (chunk.message_type !== found.at(-1)) found.push(chunk.message_type);
  return found;
};
const user = (content) => [{ role: "user", content }];

const agent = await client.agents.create({
  model,
  name: "js",
  tags: ["js"],
  memory_blocks: [{ label: "human", value: "" }],
  tool_rules: [{ type: "requires_approval", tool_name: "memory_insert" }],
});
const asked = await client.agents.messages.create(agent.id, { messages: user("I like tea") });
say("asked", asked.stop_reason.stop_reason, asked.messages.at(-1).message_type);
const call = asked.messages.at(-1).tool_calls[0];
const approved = await client.agents.messages.create(agent.id, {
  messages: [
    {
      type: "approval",
      approvals: [{ type: "approval", tool_call_id: call.tool_call_id, approve: true }],
    },
  ],
});
say("approved", approved.messages.map((message) => message.message_type));
say("block", (await client.agents.blocks.retrieve("human", { agent_id: agent.id })).value);

say("tokens", await kinds(await client.agents.messages.create(agent.id, {
  messages: user("hello"), streaming: true, stream_tokens: true,
})));
let run, last;
const background = await client.agents.messages.stream(agent.id, { messages: user("hello"), background: true });
for await (const chunk of background) {
  run ??= chunk.run_id;
  last = chunk.seq_id ?? last;
}
say("resumed", await kinds(await client.runs.messages.stream(run, { starting_after: 0 })));
say("nothing left", await kinds(await client.runs.messages.stream(run, { starting_after: last })));

const conversation = await client.conversations.create({ agent_id: agent.id });
say("conversation", await kinds(await client.conversations.messages.create(conversation.id, {
  messages: user("hello"),
})));
const held = [];
for await (const message of client.conversations.messages.list(conversation.id, { limit: 2 })) {
  held.push(message.message_type);
}
say("pages", held);

const [passage] = await client.agents.passages.create(agent.id, { text: "Cats purr", tags: ["cats"] });
const found = await client.agents.passages.search(agent.id, { query: "cats", tags: ["cats"] });
say("found", found.results.map((result) => result.content));
await client.agents.passages.delete(passage.id, { agent_id: agent.id });
say("passages", (await client.agents.passages.list(agent.id)).length);

const file = Buffer.from(JSON.stringify(await client.agents.exportFile(agent.id)));
const imported = await client.agents.importFile({ file: await toFile(file, "js.af") });
say("imported", (await client.agents.retrieve(imported.agent_ids[0])).name);
const listed = [];
for await (const one of client.agents.list({ tags: ["js"], limit: 1 })) listed.push(one.name);
say("listed", listed.sort());
await client.agents.delete(agent.id);
try {
  await client.agents.retrieve(agent.id);
} catch (error) {
  say("gone", error instanceof Letta.NotFoundError, error.status, error.error.detail);
}
