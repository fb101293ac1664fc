"""A real sitting's figures: `python -m bench scale --record` writes them anew, on a quiet machine."""

from pathlib import Path

RECORDED = Path(__file__).parents[1] / "data" / "bench_costs.json"
