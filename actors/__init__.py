"""What is alive: knows storage, knows no HTTP.

An agent is *addressed* by a `ref.AgentRef`, which costs nothing. Whoever tells it something makes the
command durable first (`intake`); then the agent is *activated* if it is not (`population.wake`: one
statement raises its fence and loads its state), *running* while a turn is under way (`agent.Actor` and its
`turn.TurnRunner`), and *passivated* when it has been idle or memory is short. Sockets notice none of it.

One message, through the modules:

    intake      count, accept durably in a batch, deliver in order of acceptance
    headstart   ask the model while the acceptance commits, where the turn will ask the very same
    mailbox     wait for the conversation's turn; steering and interrupts go around the queue
    turn        ask `loop.next_action` what to do, do it, commit, tell
    shortening  when the window is to shrink; `compaction` commits it, `summarise` asks models for the summary
    offers      which tools the rules leave for this call; which calls they refuse, which arguments they set
    modelcall   fit the window, send, stream the answer onto the channel, retry while nothing was shown
    answering   take the decisions that a conversation waited for, and go on with the step they belong to
    recompiling   the system prompt, where memory has changed since it was compiled
    acting      run a step's tools, the intent of those with outside effects committed first
    answer      pieces of the model's answer become events and, in the end, one message
    toolrun     calls become results; edits of memory are settled at the commit
    draft       what the step is about to change, against the blocks as they are committed
    calibrations  what providers report for our tokens, per model: learned by all, stored once a minute
    wording     the words of messages, which only searches read, are filled in seconds after their commit
    backlog     passages stored while their embedding model was away get their vectors later
    expiry      requests that nobody answered in time get the default answer
    jobs        what is done to a conversation between its turns: compaction on demand, reset
    edits       a write of REST's to an agent, one transaction; `edit_writes` says what each of them writes
    stored_commands   what the inbox stores becomes commands again; one that cannot be read stops nobody
    pace        work that nobody waits for is done in pieces of a millisecond
    stepcommit  a step is committed as the actor stands, and drafted anew where others were faster
    committer   many steps in one round trip; a lost answer is looked up before anything is repeated
    telling     what a turn says of its steps: whatever it begins on the log it ends there
    queueing    what is said of those who wait
    measuring   what fills a conversation's window; `breakdown` counts its parts
    channels    the log that every stream is read from, by cursor (`segments`, `following`), or heard as it is
                written (`listeners`)
    unheard     ends that nobody heard are told to those who follow
    status      how live agents are doing, for whoever asks
    recalling   what a conversation at rest has heard, from memory (`heard`): no door may hear a thing twice
    public_addresses   what pages and callbacks may connect to: nothing private, whatever a name resolves to

Deciding is pure (`loop`, `rules`, `thoughts`, `prompt`, `window`, `memory_edits`, `answer`,
`tools.arguments`); doing is around it. What an agent may do to its blocks is an edit (`memory_edits`;
`memory` has those of one block, `memory_patch` reads patches): applied to blocks by label it gives the blocks
afterwards, and it may be applied again to reloaded ones, so a step that lost a race for a block or a label is
drafted anew.

The model is asked while the acceptance is still being committed (`headstart`): that took 1.0 of 3.3 ms away
at the 10th percentile and 1.4 of 4.5 at the median of what we add to the first token over the websocket. To
prepare the request alone, and send it when the commit lands, saves our own work but not the round trip.
Sending it is safe because asking shows and stores nothing: the answer stays in the connection until the
turn reads it, and the turn begins as ever, when the command is durable. What the turn would ask is compared
with what was asked; where they differ the turn asks itself. The price is a dropped call where an acceptance
is refused. So there is no head start where that is likely: for keys that were seen, or that clients made
and may repeat from before this process began, while the database does not answer, or where something waits
or is to be done first.

Invariants:

* Whatever changes a live agent holds its `commit_turn`; hot state changes only after the commit, without
  an await in between, so nobody sees what is not durable. Deltas are the exception, and lossy.
* Conversations of one agent run at once, each strictly serial. Their commits are ordered by the version.
* A system prompt is fixed for a turn. An edit of memory is seen at the next one; the commit that ends the
  run stores the prompt that shows it.
* Every task is a child of the host's one task group, under a supervisor. A crash in a turn ends the
  activation; the next one counts an attempt, and the fourth parks the command as a dead letter.
* A log is balanced, whatever ends a run: streams and steps that begin are ended before its `RunFinished`,
  and one run runs at a time; only a crash lets a run begin again, after a `Retracted` of what it showed.
  What is said of other runs (that they wait, joined, were withdrawn or answered) may stand between.
* A cancel that was acknowledged is durable: its run has ended, or the cancel is noted beside the stored
  command (`cancelling`), and the next activation heeds it.
* Why a run stops and what it used is said right before its `RunFinished`, in the same publish.
* A host acts only while its lease runs (`directory`), on its own clock from before the renewal was sent.
  `renewals` keeps it in a thread, so that a busy loop cannot lose it; one that hangs for 15 s does.
* Bounds: commands per agent and in all (`load`, refused with 429), runs and activations at once
  (semaphores: the rest wait), bytes of logs (oldest finished runs are forgotten), bytes of hot agents
  (the least recently used idle ones leave).
"""
