// Uses everything that the types of our modules declare; it is checked and never run.
import {
  newId,
  Wakeful,
  WakefulError,
  type Followed,
  type Interrupt,
  type Notice,
  type Sent,
} from "../../../gateway/static/wakeful.js";

const client = new Wakeful({
  url: "http://127.0.0.1:8283",
  token: async () => {
    if (newId().length === 0) throw new WakefulError("sign in again", { code: 401 });
    return "token";
  },
  onState: (state, error) => {
    if (state === "away" && error?.lost) console.log(error.message);
  },
});

const approve = ({ id }: Interrupt) =>
  ({ interruptId: id, status: "resolved", payload: { approved: true } }) as const;

export async function run(agent: string): Promise<number> {
  const following: Followed = client.subscribe(`conv:${agent}`, {
    onEvent: (event, { offset, tags }) => console.log(offset, tags.run, event.type, event.delta),
    onGap: ({ epoch, offset }) => console.log(epoch, offset),
    onError: (error) => console.log(error.code),
    maxRate: 20,
    events: ["TEXT_MESSAGE_*"],
  });
  await following.ready;
  const notices = client.notices({
    onNotice: async (notice: Notice) => {
      if (notice.change === "requested") {
        const { conversation, interrupts } = notice;
        await client.resume({ conversation }, interrupts.map(approve));
      }
    },
  });
  const sent: Sent = await client.send(agent, "hello", { whenBusy: "queue" });
  await client.steer(sent.run, [{ role: "user", content: "and more" }]);
  await client.cancel(sent.run).catch((error: WakefulError) => error.temporary);
  await client.toolResult("call-1", "42", { agent, further: [{ toolCallId: "call-2", content: "43" }] });
  const block = await client.updateMemory(agent, "human", "Likes rye.", { ifVersion: 1 });
  const { publications } = await client.history(`conv:${agent}`, { limit: 5, since: following.position() });
  const { agents, more } = await client.agents({ limit: 10 });
  const page = await client.rpc<{ messages: object[] }>("history", { agent }, { repeat: true });
  const answer = await client.fetch(`/v1/agents/${agent}`, { headers: { accept: "application/json" } });
  const used: number = (await client.context({ agent })).context_window_size_current;
  notices.unsubscribe();
  following.unsubscribe();
  client.close();
  const rows = agents.map(({ name, status }) => `${name} ${status}`);
  console.log(block.version, publications[0]?.data.type, rows, more, page.messages.length, answer.ok);
  return used + (client.accepted?.ping ?? 0);
}

// What must not pass.
// @ts-expect-error a channel is text
client.subscribe(1);
// @ts-expect-error there is no such policy
void client.send("agent", "hello", { whenBusy: "perhaps" });
// @ts-expect-error an interrupt is resolved or cancelled
void client.resume({ agent: "agent" }, [{ interruptId: "i", status: "no" }]);
// @ts-expect-error it is not written from outside
client.accepted = null;
