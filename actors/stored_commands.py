"""Reads commands as the inbox stores them."""

import logging

import msgspec

from actors.commands import SendMessages

log = logging.getLogger("wakeful.host")


def read(stored: bytes, *, agent_id: str, run_id: str) -> SendMessages | None:
    """Return a stored command; None, and a line in the log, where this release cannot read it."""
    try:
        return msgspec.json.decode(stored, type=SendMessages)
    except msgspec.MsgspecError:
        log.exception("command cannot be read", extra={"agent_id": agent_id, "run_id": run_id})
        return None
