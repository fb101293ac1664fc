"""What is said to the outside: HTTP and websockets in and out, on top of actors and storage.

A request's path
----------------
`serve` starts, `life` is one run of the server; `garbage` decides when the process looks for garbage.
`app.App` is one plain ASGI application. It makes a request id, asks `auth.Gate` who calls, finds the
route in `router.Router`, builds a `Context` and awaits the route's endpoint under the route's deadline.
Whatever the endpoint raises becomes one answer in `errors.answer`: that table is the only place that
knows status codes, and every error body has the same shape.

A connection's life
-------------------
A websocket at `/v1/ws` lives in `realtime`: a pure state machine decides, its shell does. `tokens` says who
connects, `rpc` carries out methods, one file a noun, `feeds` opens channels.

What subscribers see comes from the event logs in `actors.channels`. A feed encodes an event once, when the
first subscriber needs it, and hands the same bytes to all. `agui` gives the one AG-UI image of every event;
`agui.projection` and `ai_sdk.reducer` make a run's stream for one client; `threads` maps the thread ids of
front ends to conversations, `withdrawn` says which answers they show no more, `endings` how a stream ends
that cannot go on. `letta` has the shapes of Letta's clients, `requests` the bodies that ask for
writes. `client` is our own client, which brings no server; `chat`, `commands` and `doctor` are on it.

Invariants
----------
- Routes are data (`app.Route`). The router, `/openapi.json` and the routes page are made from them.
- A body is decoded once, strictly, by `decode`: size, depth, UTF-8 and lone surrogates are refused before
  any endpoint sees a value, and NUL is dropped (over a websocket: refused), so nothing behind the edge
  meets text that Postgres cannot store.
- Writes to an agent go through `host.ref(agent_id)`; only nouns that belong to no agent are written here.
- A log is read and joined in one synchronous step, so that no event falls between; offsets are cursors.
- Nothing a subscriber does is waited for: a sink takes a frame or ends.
- A disconnect ends nothing but the connection; runs end by `run.cancel` or by themselves.
- `letta` is pure: its modules turn records and events into the JSON that Letta's clients expect.
"""
