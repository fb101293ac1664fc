"""The measurements, one small file each; a new one is written there and listed here."""

from bench.case import Case
from bench.cases import create, crowd, first_token, held, memory, start, step, tokens, tool

CASES: tuple[Case, ...] = (
    step.CASE,
    tool.CASE,
    crowd.CASE,
    first_token.CASE,
    tokens.CASE,
    held.CASE,
    create.CASE,
    memory.CASE,
    start.CASE,
)
