"""The local embedding model: one child process, there only while it is wanted.

The server itself never loads numpy or onnxruntime: the model costs 220 MiB, a crash in native code would take
every agent along, and a pass of the model would stop the event loop. So a child does it:

    local     the server's side: requests wait here, are cut into batches, and are tried again once
    process   one child: started, asked, stopped; knows nothing of requests
    frames    what travels through the child's pipes (pure)
    child     the child's side: reads a batch, answers it, until the pipe ends
    minilm    the model: all-MiniLM-L6-v2 with int8 weights. The only module that imports numpy

Invariants:

- The child has one batch at a time. What arrives meanwhile gathers and makes the next one, in which every
  waiting request has its turn: a search never waits for more than one batch of somebody's bulk insert.
- A request that lost its child is given to a fresh one once, alone, so that a text which kills the model
  fails nobody else.
- The child dies with the server: the kernel kills it, and it ends when its pipe does. It keeps no state.
- Nobody waits for ever: for its start, for each batch, and for its end there are deadlines.
- The model's file and vocabulary are checked by hash before they are used.
"""
