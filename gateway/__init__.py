"""What is said to the outside: HTTP and websockets in and out, on top of actors and storage.

A request's path
----------------
`app.App` is one plain ASGI application. It makes a request id, asks `auth.Gate` who calls, finds the
route in `router.Router`, builds a `Context` and awaits the route's endpoint under the route's deadline.
Whatever the endpoint raises becomes one answer in `errors.answer`: that table is the only place that
knows status codes, and every error body has the same shape.

A connection's life
-------------------
A websocket at `/v1/ws` is admitted by `websocket`. Its messages are taken by a callback of its
`sockets.Socket` (uvicorn's protocol, with a synchronous write); `session`, a pure state machine, says of
every frame, answer, publication and tick what is to be sent, begun or closed; `realtime` does that work
as tasks that end with the connection. `protocol` decodes commands, `tokens` says who connects, `rpc` and its
neighbours `rpc_*` carry out methods, `feeds` opens channels. `outbound` writes a publication that was framed
once for all its subscribers, or queues it within bounds and merges what a slow reader has not taken.

What subscribers see comes from the event logs in `actors.channels`. A feed (`conversation_feed`,
`agent_feed`, `state_feed`, `fleet_feed`, `user_feed`) encodes an event once, as one `frames.Frame`, when the
first subscriber needs it, and hands the same bytes to all. `agui` gives the one AG-UI image of every event;
`agui_projection` and `ai_sdk` are reducers that make a run's stream for one client; `threads` maps the thread
ids of front ends to conversations. `client` and its neighbours are our own client, which brings no server.

Invariants
----------
- Routes are data (`app.Route`). The router, `/openapi.json` and the routes page are made from them.
- A body is decoded once, strictly, by `decode`: size, depth, UTF-8, NUL and lone surrogates are refused
  before any endpoint sees a value, so nothing behind the edge meets text that Postgres cannot store.
- Writes to an agent go through `host.ref(agent_id)`; only nouns that belong to no agent are written here.
- A log is read and joined in one synchronous step, so that no event falls between; offsets are cursors.
- Nothing a subscriber does is waited for: a sink takes a frame or ends.
- A disconnect ends nothing but the connection; runs end by `run.cancel` or by themselves.
- `letta_*` modules are pure: they turn records and events into the JSON that Letta's clients expect.
"""
