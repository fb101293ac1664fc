"""Models: from a window of encoded messages to a stream of pieces.

`model` says what a model is to everybody else: bytes in, batches of pieces out, `ModelError` when the
call failed. Everything below it is replaceable.

A call, in order:

    catalog        finds the model of a handle: `provider/name`
    habits         says how it is spoken to (pure); the answer is one value, a `dialects.Dialect`
    calls          makes the call ready (pure): where it goes, its bytes, and what reads the answer
    openai_chat, openai_responses      join what is already encoded into a request body (pure)
    http           sends it: the official client builds URL and headers once in a while, aiohttp carries bytes
    incoming       receives the answer: what comes while the turn waits is decoded, said and sent on in the
                   callback in which its bytes arrive (`tap`); the turn's task runs again only for the end
    sse            cuts the answer into events, wherever the network cut it (pure)
    openai_stream, responses_stream    turn events into pieces (pure); `openai_shapes` reads odd spellings,
                   `decoding` puts the answer together
    errors         says what a failure means: one table (pure); `lacks` reads what the model cannot do
    retry          says whether and when to try again (pure); the caller knows what was shown already

Every message of a thread is kept encoded in one dialect. The dialect holds all that decides the bytes: which
API, whether calls are native or text, whether images are sent, and whose signed thoughts go back. A model of
another dialect makes the thread read its window once more and encode it anew; nothing else asks.

How a model is spoken to comes from four places, the later beating the earlier: `known`, the one table of
providers and their quirks; what its server says of it (`discovery`, `windows`); what a person set; and what
its refusals taught since the process began. A refusal that names what is lacking (tools, images, a response
format, `/responses`, a setting) is no failure: the call is made again without it, and so are all later ones.

Models without tools answer in JSON (`text_calls`): a schema of calls and a reply, explained in words, and
read back by `text_calls_stream` while it arrives. A model with tools that writes a call as text is caught by
`stray_calls`, which holds text back only while it could still be nothing but a call.

Texts become vectors in `embed`: by a provider (`embed_http` sends, `openai_embeddings` writes and reads,
pure) or by the local model, which is the package `actors.embedder`.

Images in a call's result stand in the result in the responses dialect. In chat completions, whose tool
messages hold text alone, they follow all results of the step in a user's message (`encode_images`).

Beside it: `providers` (what the environment configures), `formats` (the form of an answer), `wire`
(connections, proxies, deadlines), `openai_sdk` (the only module that imports the official client; it takes
a second to import and is loaded in a thread), and `demo`, a model without a language model (`demo_mind`
decides, `demo_words` reads).

Invariants:

- One typed decode per token, no timer and no switch of tasks; a strange event costs more, and never the
  call.
- An answer ends in `Finished` or in one `ModelError`, never in both and never in neither.
- Nothing of a provider's text reaches an error message before keys and passwords are taken out of it.
- Whatever a model wrote (ids, names, arguments) is sent back in a form that every provider takes, so
  that no answer can make a history unusable.
- An answer is bounded: 16 MiB an event, 8 million characters, 256 calls, and 256 MiB in all.
"""
