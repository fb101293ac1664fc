"""What is said to the outside: HTTP in and out, on top of actors and storage.

A request's path
----------------
`app.App` is one plain ASGI application. It makes a request id, asks `auth.Gate` who calls, finds the
route in `router.Router`, builds a `Context` and awaits the route's endpoint under the route's deadline.
Whatever the endpoint raises becomes one answer in `errors.answer`: that table is the only place that
knows status codes, and every error body has the same shape.

Invariants
----------
- Routes are data (`app.Route`). The router, `/openapi.json` and the routes page are made from them.
- A body is decoded once, strictly, by `decode`: size, depth, UTF-8, NUL and lone surrogates are refused
  before any endpoint sees a value, so nothing behind the edge meets text that Postgres cannot store.
- Writes to an agent go through `host.ref(agent_id)`; only nouns that belong to no agent are written here.
- `letta_*` modules are pure: they turn records and events into the JSON that Letta's clients expect.
"""
