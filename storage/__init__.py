"""What is at rest: knows Postgres, knows no actor and no HTTP.

Tables (the whole of them, commented, in `schema.sql`; `migrations/` is the path to it):

    organizations            who everything belongs to
    agents                   the durable agent, with the fence and version that guard its commits
    blocks, agents_blocks    memory, perhaps shared by several agents; each block has its own version
    tools, agents_tools      what an agent may call
    archives, archives_agents, passages
                             what agents put away for good, perhaps shared; found by meaning and by words
    conversations, messages  ordered threads; a window is a range of positions, never a list
    message_words            what searches find messages by; worded_conversations: how far each is filled in
    inbox, runs              accepted commands, and the handling of each
    steps, tool_calls        model calls and what they asked for
    hosts, shards            who may run agents, under which fence
    calibrations             what models' providers report for each token that we count

Modules are nouns, with their statements above the functions that run them. A function takes an open
connection first and opens no transaction; those that must (`edits.commit`, `checkpoints.commit`,
`ownership.claim`, `passage_indexes.make_missing`, `unembedded.store`) say so. Nobody writes for an
agent while a migration is applied; it is refused while a host of another name lives.

Who writes what:

    inbox.accept             a command and its run, once per (agent, key), many in one round trip
    checkpoints.commit       everything that a step changes, many agents in one round trip
    edits                    writes to a live agent that are not steps, one fenced transaction each
    activation.activate      the fence, and the count of attempts
    ownership                hosts and shards
    agents, blocks, tools    what belongs to no live agent: creating, and blocks by compare-and-set
    archives, passages       as such directly; an agent's own inside its actor's step or edit
    words                    the words of messages, after their commit
    unembedded               vectors of passages that were stored without one

Invariants: a command is accepted once and handled once; a step commits whole, under the newest fence
and the version it started from, or not at all; a message never changes its position; a finished run
never changes; the version of a block rises with every write of it.

The words of a message are no part of a step's commit: they cost an eighth of what it costs Postgres, and only
searches read them. `words.fill` fills them in for many messages at once: the host some seconds after their
commit (`actors.wording`), and a search what it needs before it looks, so it finds all that was committed when
it began, in any process. How far a conversation is filled in stands beside its words, and is written with
them. Copies of messages, which forks have, stand before that from the start and are never found twice.

A conversation's row is written when its window moves, not at every step: read the view `conversations_now`,
which adds what its later messages say of its end and of when somebody spoke last.

Vectors of every model stand in the one column `passages.embedding`, of pgvector's type where the server has
it and `real[]` elsewhere; the driver's codec knows which (`pool.Conn.has_vectors`). Each length has a partial
HNSW index (`passage_indexes`), and a search takes it only where comparing the whole archive would cost more
(`passage_search`). Between the parts of a search a row is its `ctid`, which one statement sees unchanged, and
common words are known from statistics kept for each connection (`passage_statistics`). Vectors of different
models are never compared. Words are looked up within bounds, in
archives as in histories (`recall_search`): where a word is everywhere, only some of its rows are ranked.

What a message writes has no foreign key, and its tables (`messages`, `runs`, `inbox`, `steps`, `agents`,
`conversations`) have no checks but those of their domains: `schema.sql` says why, and what keeps them whole.
A writer of such a row holds its agent's row, or that of its conversation, and `edits.delete_agent` takes the
rows along.

Pooled connections never read a table whole where an index knows its rows: the planner cannot tell a small
archive from a large one. `dsn` reads addresses, `failures` says what a database's errors mean.

Lock order: agents in order of id, then blocks in order of id, then everything else. The advisory lock
`wakeful.ownership` is taken before any row, that of `wakeful.words` after all rows but those of words.
Nothing here is held across a model call, a tool or a socket.
"""
