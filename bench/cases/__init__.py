"""The measurements, one small file each; a new one is written there and listed here."""

from bench.case import Case
from bench.cases import (
    create,
    crowd,
    first_token,
    held,
    memory,
    start,
    step,
    tokens,
    tool,
    ws_burst,
    ws_first_token,
    ws_memory,
    ws_resume,
    ws_stalled,
    ws_tokens,
)

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
    ws_first_token.CASE,
    ws_tokens.CASE,
    ws_burst.CASE,
    ws_memory.CASE,
    ws_stalled.CASE,
    ws_resume.CASE,
)
