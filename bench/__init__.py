"""Measures the server beside a minimal relay: how much it adds to the model's own time, and what that costs.

    python -m bench                 every row of the table, median of alternating runs, under 10 minutes
    python -m bench --only ws_tokens --runs 1 --quick        a look at one case
    python -m bench --html page.html                         a page with plots beside the table and the JSON
    python -m bench --read bench/out/….json --html page.html the page of an earlier run
    python -m bench explain RUN_ID --url http://127.0.0.1:8283   where the time of one run went
    python -m bench.provider        the scripted model provider alone
    python -m bench.relay           the relay alone

Parts. `replies` says what the scripted provider can be told to answer, `wire` writes it in OpenAI's
format, `serving` and `provider` serve it in a process of its own, and `recording` keeps when it was asked
and when it wrote. `relay` is the honest lower bound: the same HTTP client and database, no tools, no runs,
no checks. `targets` starts and speaks to what is measured, `load` is the client, in a process of its own,
`readers` is the client of the websocket, whose connections are `peers` and speak in `frames`; `bare` is
what sending costs without a server behind it. `measure` reads the operating system's accounting, `cases/`
holds one small file per measurement, and `report` judges and prints; `html` draws. `explain` asks a running
server where the time of one run went.

Rules of measuring. A figure counts only beside the relay's in the same sitting, because the machine
drifts. CPU is what the kernel accounted to the processes, never wall time. All clocks are
CLOCK_MONOTONIC, which Linux processes share, so that times of client and provider subtract.
"""
