"""Takes a model's calls to their results: checked, reads awaited, memory edits settled at the commit."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from msgspec import Struct
from msgspec.structs import replace

from actors import memory
from actors.memory import MemoryEditError
from actors.tools import arguments, conversation, results
from actors.tools.memory import edit_of
from actors.tools.registry import BUILTIN, ToolSpec
from actors.tools.results import ToolError
from storage.pool import Pool, connection
from storage.records import Block, JsonObject, Tool, ToolCallPart, ToolReturnPart


class Reader(Struct, frozen=True):
    """What a tool that reads may use."""

    pool: Pool
    agent_id: str
    run_id: str
    timezone: str
    now: datetime


class Prepared(Struct, frozen=True, kw_only=True):
    """A call on its way to its result: `result` is set once it is known, `invalid` where it was no call."""

    call: ToolCallPart
    spec: ToolSpec | None = None
    arguments: JsonObject = {}
    result: ToolReturnPart | None = None
    invalid: bool = False

    @property
    def reads(self) -> bool:
        """Whether the call is still to be awaited."""
        return self.result is None and self.spec is not None and self.spec.kind == "read"

    def stopped(self, reason: str) -> "Prepared":
        """Return the call with a result that says it did not run, unless it has one."""
        if self.result is not None:
            return self
        return replace(self, result=ToolReturnPart(self.call.id, self.call.name, "error", reason))

    def settle(self, blocks: Mapping[str, Block]) -> tuple[Block | None, ToolReturnPart]:
        """Return (the block as edited, the result). Pure: it may be done again on reloaded blocks."""
        if self.result is not None:
            return None, self.result
        assert self.spec is not None
        try:
            block = memory.apply(blocks, edit_of(self.spec.name, self.arguments))
        except MemoryEditError as error:
            return None, results.failed(self.call, error)
        return block, results.succeeded(self.call, block.value, spec=self.spec)


def prepare(calls: Sequence[ToolCallPart], tools: Mapping[str, Tool]) -> list[Prepared]:
    """Check calls against the agent's tools; what a model got wrong has its error result already."""
    return [_prepare(call, tools) for call in calls]


def _prepare(call: ToolCallPart, tools: Mapping[str, Tool]) -> Prepared:
    spec = BUILTIN.get(call.name)
    if spec is None or call.name not in tools:
        return Prepared(call=call, result=results.unknown(call, tools), invalid=True)
    checked = arguments.parse(spec, call.arguments)
    if isinstance(checked, str):
        return Prepared(call=call, spec=spec, result=results.invalid(call, checked), invalid=True)
    return Prepared(call=call, spec=spec, arguments=checked)


async def read(prepared: Prepared, reader: Reader) -> Prepared:
    """Run a call that only reads and return it with its result. Cancelling it loses nothing."""
    spec, call = prepared.spec, prepared.call
    assert spec is not None
    try:
        async with connection(reader.pool) as conn:
            text = await conversation.search(
                conn,
                prepared.arguments,
                agent_id=reader.agent_id,
                timezone=reader.timezone,
                now=reader.now,
                run_id=reader.run_id,
            )
    except ToolError as error:
        return replace(prepared, result=results.failed(call, error))
    return replace(prepared, result=results.succeeded(call, text, spec=spec))
