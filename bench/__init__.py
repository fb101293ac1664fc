"""Measures the server beside a minimal relay: how much it adds to the model's own time, and what that costs.

    python -m bench                 every row of the table, median of 5 alternating runs
    python -m bench.provider        the scripted model provider alone
    python -m bench.relay           the relay alone

Parts. `replies` says what the scripted provider can be told to answer, `wire` writes it in OpenAI's
format, `serving` and `provider` serve it in a process of its own, and `recording` keeps when it was asked
and when it wrote. `relay` is the honest lower bound: the same HTTP client and database, no tools, no runs,
no checks. `targets` starts and speaks to what is measured, `load` is the client, in a process of its own,
`measure` reads the operating system's accounting, `cases/` holds one small file per measurement, and
`report` judges and prints.

Rules of measuring. A figure counts only beside the relay's in the same sitting, because the machine
drifts. CPU is what the kernel accounted to the processes, never wall time. All clocks are
CLOCK_MONOTONIC, which Linux processes share, so that times of client and provider subtract.
"""
