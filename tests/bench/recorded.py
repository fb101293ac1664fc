"""A real sitting's JSON: `python -m bench --targets ours --quick --runs 1` of the cases of a plan."""

from pathlib import Path

RECORDED = Path(__file__).parents[1] / "data" / "bench_costs.json"
