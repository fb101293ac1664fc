"""Takes a model's calls to their results: checked, reads awaited, memory edits settled at the commit."""

from collections.abc import Mapping, Sequence
from typing import Literal

import anyio
from msgspec import Struct
from msgspec.structs import replace

from actors import memory_edits
from actors.memory import MemoryEditError
from actors.memory_edits import Applied, Birth
from actors.tools import archival, arguments, conversation, outside, results
from actors.tools.builtin_specs import FETCH_WEBPAGE, WEB_SEARCH
from actors.tools.memory import edit_of
from actors.tools.outside import Invocation, Run
from actors.tools.reading import Reader
from actors.tools.registry import ARCHIVAL_MEMORY_INSERT, ARCHIVAL_MEMORY_SEARCH, BUILTIN, ToolSpec
from actors.tools.results import ToolError
from actors.window import INTERRUPTED
from storage.archive_records import Passage
from storage.pool import connection
from storage.records import Block, JsonObject, Tool, ToolCallPart, ToolCallState, ToolReturnPart


class Prepared(Struct, frozen=True, kw_only=True):
    """A call on its way to its result: `result` is set once it is known, `invalid` where it was no call.

    `fate` says what is known of a call that did not end by itself. `passage` is what the step is to store
    in archival memory.
    """

    call: ToolCallPart
    spec: ToolSpec | None = None
    arguments: JsonObject = {}
    result: ToolReturnPart | None = None
    invalid: bool = False
    fate: Literal["interrupted", "uncertain"] | None = None
    passage: Passage | None = None

    @property
    def reads(self) -> bool:
        """Whether the call is still to be awaited."""
        return self.result is None and self.spec is not None and self.spec.kind in ("read", "archive")

    @property
    def runs(self) -> bool:
        """Whether the call is still to be run outside of this system."""
        return self.result is None and self.spec is not None and self.spec.kind == "call"

    @property
    def to_intend(self) -> bool:
        """Whether the intent must be durable before the call is run."""
        return self.runs and self.spec is not None and self.spec.effects == "outside"

    @property
    def outcome(self) -> ToolCallState:
        """How the call ended, as its row says it."""
        if self.fate is not None or self.result is None:
            return self.fate or "interrupted"
        return self.result.status

    def begun(self) -> "Prepared":
        """Return the call as one of which nobody knows what it did, until its result says it."""
        return replace(self, result=None, fate="uncertain")

    def stopped(self, reason: str) -> "Prepared":
        """Return the call with a result that says it did not run, or that it may have, unless it has one."""
        if self.result is not None:
            return self
        text = INTERRUPTED if self.fate == "uncertain" else reason
        part = ToolReturnPart(self.call.id, self.call.name, "error", text)
        return replace(self, result=part, fate=self.fate or "interrupted")

    def settle(self, blocks: Mapping[str, Block], birth: Birth) -> tuple[Applied | None, ToolReturnPart]:
        """Return (memory after the call, the result). Pure: it may be done again on reloaded blocks."""
        if self.result is not None:
            return None, self.result
        assert self.spec is not None
        if self.spec.kind == "said":
            return None, results.succeeded(self.call, self.spec.says, spec=self.spec)
        try:
            applied = memory_edits.apply(blocks, edit_of(self.spec.name, self.arguments, blocks), birth)
        except MemoryEditError as error:
            return None, results.failed(self.call, error)
        return applied, results.succeeded(self.call, applied.text, spec=self.spec)


def prepare(calls: Sequence[ToolCallPart], tools: Mapping[str, Tool]) -> list[Prepared]:
    """Check calls against the agent's tools; what a model got wrong has its error result already."""
    return [_prepare(call, tools) for call in calls]


def _prepare(call: ToolCallPart, tools: Mapping[str, Tool]) -> Prepared:
    spec = BUILTIN.get(call.name) or outside.spec_of(call.name)
    if spec is None or call.name not in tools:
        return Prepared(call=call, result=results.unknown(call, tools), invalid=True)
    checked = arguments.parse(spec, call.arguments)
    if isinstance(checked, str):
        return Prepared(call=call, spec=spec, result=results.invalid(call, checked), invalid=True)
    return Prepared(call=call, spec=spec, arguments=checked)


async def read(prepared: Prepared, reader: Reader) -> Prepared:
    """Await a call that reads or prepares, and return it with its result. Cancelling it loses nothing."""
    spec, call = prepared.spec, prepared.call
    assert spec is not None
    passage: Passage | None = None
    try:
        match spec.name:
            case ARCHIVAL_MEMORY_INSERT.name:
                passage, text = await archival.passage_of(prepared.arguments, reader)
            case ARCHIVAL_MEMORY_SEARCH.name:
                text = await archival.search(prepared.arguments, reader)
            case WEB_SEARCH.name:
                assert reader.web is not None
                text = await reader.web.search(prepared.arguments)
            case FETCH_WEBPAGE.name:
                assert reader.web is not None
                text = await reader.web.fetch(prepared.arguments)
            case _:
                text = await _conversation(prepared.arguments, reader)
    except ToolError as error:
        return replace(prepared, result=results.failed(call, error))
    return replace(prepared, result=results.succeeded(call, text, spec=spec), passage=passage)


async def _conversation(given: JsonObject, reader: Reader) -> str:
    async with connection(reader.pool) as conn:
        return await conversation.search(
            conn,
            given,
            agent_id=reader.agent_id,
            timezone=reader.timezone,
            now=reader.now,
            run_id=reader.run_id,
        )


async def run(prepared: Prepared, invocation: Invocation, *, ours: Mapping[str, Run] = {}) -> Prepared:
    """Run a call outside of this system and return it with its result.

    `ours` is what runs the tools of this host itself. Cancelling it leaves unknown what it did, and so does
    its deadline.
    """
    spec, call = prepared.spec, prepared.call
    assert spec is not None
    text: str | None = None
    with anyio.move_on_after(outside.DEADLINE):
        try:
            text = await (ours.get(spec.name) or outside.run_of(spec.name))(invocation)
        except ToolError as error:
            return replace(prepared, result=results.failed(call, error), fate=None)
    if text is None:
        return prepared.begun().stopped("")
    return replace(prepared, result=results.succeeded(call, text, spec=spec), fate=None)
