"""Models: from a window of encoded messages to a stream of pieces.

`model` says what a model is to everybody else: bytes in, batches of pieces out, `ModelError` when the
call failed. Everything below it is replaceable.

A call, in order:

    catalog        finds the model of a handle: `provider/name`
    openai_chat    joins what is already encoded into a request body (pure)
    http           sends it: the official client builds URL and headers once in a while, aiohttp carries bytes
    sse            cuts the answer into events, wherever the network cut it (pure)
    openai_stream  turns events into pieces (pure); `openai_shapes` reads what is written oddly
    errors         says what a failure means: one table (pure)
    retry          says whether and when to try again (pure); the caller knows what was shown already

Beside it: `providers` (what the environment configures), `wire` (connections, proxies, deadlines),
`openai_sdk` (the only module that imports the official client; it takes a second to import and is loaded
in a thread), and `demo`, a model without a language model (`demo_mind` decides, `demo_words` reads).

Invariants:

- One typed decode per token and no timer per token; a strange event costs more, and never the call.
- An answer ends in `Finished` or in one `ModelError`, never in both and never in neither.
- Nothing of a provider's text reaches an error message before keys and passwords are taken out of it.
- Whatever a model wrote (ids, names, arguments) is sent back in a form that every provider takes, so
  that no answer can make a history unusable.
- Memory is bounded: 16 MiB an event, 8 million characters and 256 calls an answer.
"""
