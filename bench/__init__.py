"""Measures the server beside a minimal relay: how much it adds to the model's own time, and what that costs.

    python -m bench                 every row of the table, median of 5 alternating runs, in under 10 minutes
    python -m bench --only ws_tokens --runs 1 --quick        a look at one case
    python -m bench --html page.html                         a page with plots beside the table and the JSON
    python -m bench --read bench/out/….json --html page.html the page of an earlier run
    python -m bench --suite load    every door of the server, the relay and the floor under an open loop
    python -m bench --suite parts   waking, checkpoints, fan-out, search, a kill to the next answer, the SDK
    python -m bench --profile --only crowd                   a flame graph of the server in one case
    python -m bench explain RUN_ID --url http://127.0.0.1:8283   where the time of one run went
    python -m bench explain bench/out/….json                 which phases hold the rest where its rows fail
    python -m bench scale --agents 10000 --messages-per-second 50 --watchers 2000     what a load takes
    python -m bench scale --check   two loads on this machine beside what the model says of them
    python -m bench scale --record  the costs that tests read, measured anew on a quiet machine
    python -m bench guard           fails where a message has come to cost a fifth more than the baseline
    python -m bench guard --update  records the baseline of this class of machine
    python -m bench.provider        the scripted model provider alone
    python -m bench.relay           the relay alone

Parts. `replies` says what the scripted provider can be told to answer, `wire` writes it in OpenAI's format,
`serving` and `provider` serve it in a process of its own, and `recording` keeps when it was asked and when
it wrote. `relay` is the honest lower bound: the same HTTP client and database, no tools, no runs, no
checks. `targets` starts and speaks to what is measured (`stretch` accounts a part of a load), `load` is the
client, in a process of its own, `readers` is the client of the websocket, whose connections are `peers` and
speak in `frames`; `bare` is what sending costs without a server behind it. `measure` reads the operating
system's accounting, `cases/` holds one small file per measurement, `sitting` runs them, `budget` plans how
long that takes and says what it took, `report` judges and prints; `html` draws. `explain` asks a running
server where the time of one run went. `profiling` has py-spy record the server while a case runs.

Load. `generator` sends at the times of `arrivals`, whatever is still under way, through `lines` to `doors`
(the ways into a server) of `loaded` targets, ours and anyone's (`foreign`, which makes agents and histories
by their own APIs, in bounded time, or says why not); latency counts from the intended time, and a generator
that was late says so. A closed loop is timed by whole `rounds` of answers, and what a door gives at most is
taken in turns with the relay. `levels` takes off what the provider caused, found by a marker in the prompt;
`histogram` keeps distributions, `level_report` and `plots` show them. `phases` reads where the messages of a
case spent their time, here and in the relay, `stacks` draws it, and `shortfall` names below the table the
phases that hold the rest where a row fails; `seeding` writes rows straight into a database.

Scaling on paper. `scaling` is the model, pure: sums of measured costs times rates, and what a host has only
so much of. A message, token or frame that comes after a pause finds cold caches and shares neither wake-up
nor commit, and costs up to twice what it does in a crowd; so each was measured at low rates (`paced`) and at
high ones, and from one rate to the next each doubling takes the same share off. `costs` fits it to the JSON
of a sitting, `scale` is the command, and `scale_check` runs a small load with pauses and a large one, sets
what they took beside the model's answers, judges, and says which way an error goes: below zero a plan is
short. The model knows what was measured and says what was not.

The guard. `probes` are measurements of seconds, each a ratio in pairs: this server beside the relay, or a
frame beside a bare uvicorn's, at once where the load is paced and in turns where it is not. `baselines` has
the ratios of each class of machine under `baselines/` and judges; `guard` is the command, the last step of
.ci/run. The figures are CPU by the kernel's accounting, the highest and the lowest pair of each count for
nothing, and what is too high is measured up to four times again: a loss is there each time. On 2 cores at a
load average of 5 to 8 from other work a ratio lay up to a fifth beside its median; six runs of six passed,
one of them by its third try. Record a baseline when nothing else runs, for which `quiet` waits, and commit
it with the change it belongs to.

Rules of measuring. A figure counts only beside the relay's in the same sitting, because the machine
drifts; a case that takes turns itself gives a figure for each, and rows have their median and spread. Where
a row fails, a line below the table says in which phases it is spent, if in any, and what is next. CPU is what
the kernel accounted to the processes, never wall time. All clocks are CLOCK_MONOTONIC, which Linux processes
share, so that times of client and provider subtract.
"""
