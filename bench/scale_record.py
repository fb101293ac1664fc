"""Records the costs that tests of the model of scaling read, measured on a machine that does nothing else."""

import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from bench import costs, measure, quiet
from bench.costs import NEEDED, FitError

RECORDED = measure.ROOT / "tests" / "data" / "bench_costs.json"
KEPT = (  # of a report: what the costs are fitted to, and what says where they come from
    "machine",
    "settings",
    "started_at",
    "seconds",
    "load_before",
    "calibration_ms",
    "figures",
)


def record(path: Path, *, tell: Callable[[str], object], anyway: bool = False) -> None:
    """Measure the cases that costs need, and write their figures to a file once they are all there.

    Until the machine is quiet it waits, for some minutes at most (unless `anyway`).

    Raises:
        FitError: Something else runs on this machine, or figures are missing; the file is as it was.
    """
    if not anyway and (load := quiet.wait(tell)) > quiet.LOAD:
        raise FitError(
            f"load average {load:.1f}: something else runs here, and costs would come out too high; "
            f"wait until it is below {quiet.LOAD:g}, or say --anyway"
        )
    tell(f"measuring {', '.join(NEEDED)} for {path}")
    with tempfile.TemporaryDirectory(prefix="wakeful-scale-") as folder:
        only = [word for case in NEEDED for word in ("--only", case)]
        command = [sys.executable, "-m", "bench", "--targets", "ours", *only, "--out", folder]
        subprocess.run(command, cwd=measure.ROOT, check=False)  # it fails where a row does: no matter here
        written = sorted(Path(folder).glob("bench-*.json"))
        if not written:
            raise FitError("the bench wrote no JSON; what it printed says why")
        path.write_bytes(msgspec.json.format(msgspec.json.encode(kept(written[-1].read_bytes())), indent=1))


def kept(report: bytes) -> dict[str, Any]:
    """Return the part of a report that is recorded.

    Raises:
        FitError: Figures are missing.
    """
    costs.fit(costs.read(report))
    whole = msgspec.json.decode(report, type=dict[str, Any])
    return {name: whole[name] for name in KEPT if name in whole}
