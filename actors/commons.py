"""What the actors of one process share: the database, models, logs, counts, and a parent for tasks."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from msgspec import Struct

from actors import thoughts
from actors.batch import Batcher
from actors.calibrations import Calibrations
from actors.channels import Logs
from actors.committer import Committer
from actors.directory import Directory
from actors.llm.catalog import Catalog
from actors.llm.embed import Embeddings
from actors.load import Load
from actors.mailbox import Waiting
from actors.tokens import Counter
from actors.tools import registry
from actors.tools.builtin_specs import RUN_CODE
from actors.tools.outside import Run
from actors.tools.sandbox import CodeSandbox
from actors.tools.web import Web
from actors.wording import Wording
from storage.checkpoints import Checkpoint
from storage.pending_records import ClientTool
from storage.pool import Pool
from storage.records import Block, JsonObject, RunStatus, Tool

if TYPE_CHECKING:
    from actors.agent import Actor

log = logging.getLogger("wakeful.host")

_UNDATED = datetime(1970, 1, 1, tzinfo=UTC)
# Different sets of tools that are kept encoded, and what they may come to: clients bring tools of their own.
# More, and all are encoded anew.
MAX_TOOLBOXES = 1000
TOOLBOX_BYTES = 64 << 20


class HostSettings(Struct, frozen=True, kw_only=True):
    """The bounds of one host; see the settings page for what each one does."""

    max_pending_per_agent: int = 256
    max_pending: int = 10_000
    max_runs: int = 512
    max_activations: int = 32
    passivate_after: float = 600.0
    hot_bytes: int = 1 << 30
    log_bytes: int = 64 << 20
    drain_seconds: float = 10.0
    embedding: str | None = None
    embedding_base_url: str | None = None
    embedding_api_key: str | None = None
    embedder_idle: float = 600.0
    when_pending: Literal["reject", "queue"] = "reject"
    approval_seconds: float = 86_400.0
    approval_default: Literal["deny", "approve"] = "deny"
    exa_api_key: str | None = None
    exa_base_url: str = "https://api.exa.ai"
    e2b_api_key: str | None = None
    fetch_private: Literal["off", "on"] = "off"


class Toolbox(Struct, frozen=True):
    """The tools of an agent by name, as the JSON array that models are sent, and what that costs."""

    tools: dict[str, Tool]
    wire: bytes | None
    tokens: int
    strict: bool = False
    terminal: frozenset[str] | None = None


def _client_row(tool: ClientTool) -> Tool:
    """Return a client's tool as the row by which models are shown it; its id is its definition's."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    schema: JsonObject = {"name": tool.name, "description": tool.description or "", "parameters": parameters}
    return Tool(
        id=f"client-{sha256(msgspec.json.encode(schema)).hexdigest()}",
        organization_id="",
        name=tool.name,
        tool_type="client",
        description=tool.description or "",
        json_schema=schema,
        created_at=_UNDATED,
        updated_at=_UNDATED,
    )


class Commons:
    """The things every actor of the process uses. Nothing here belongs to one agent."""

    def __init__(
        self,
        pool: Pool,
        commit_pool: Pool,
        catalog: Catalog,
        *,
        name: str,
        settings: HostSettings,
        lease_dsn: str | None = None,
    ) -> None:
        self.pool = pool
        self.commit_pool = commit_pool
        self.catalog = catalog
        self.settings = settings
        self.counter = Counter()
        self.calibrations = Calibrations(pool)
        self.logs = Logs(settings.log_bytes)
        self.load = Load(per_agent=settings.max_pending_per_agent, in_all=settings.max_pending)
        self.directory = Directory(pool, name, dsn=lease_dsn)
        self.committer = Committer(commit_pool)
        self.wording = Wording(pool)
        self.checkpoints: Batcher[Checkpoint, None] = Batcher(self._commit, key=lambda c: c.agent_id)
        self.embeddings = Embeddings(
            catalog,
            self.spawn,
            chosen=settings.embedding,
            base_url=settings.embedding_base_url,
            api_key=settings.embedding_api_key,
            idle_seconds=settings.embedder_idle,
        )
        self.web = Web(
            catalog.wire,
            exa_api_key=settings.exa_api_key,
            exa_base_url=settings.exa_base_url,
            private=settings.fetch_private == "on",
        )
        # What runs the built-in tools that act outside of this system.
        self.runs: Mapping[str, Run] = {RUN_CODE.name: CodeSandbox(api_key=settings.e2b_api_key).run}
        self.run_slots = asyncio.Semaphore(settings.max_runs)
        # Of every conversation that waits for an answer: its agent, and the message that asks.
        self.awaited: dict[str, tuple[str, str]] = {}
        self.on_finished: list[Callable[[Waiting, RunStatus], None]] = []
        self.unembedded = asyncio.Event()  # set where passages were stored without vectors; see `backlog`
        self.on_block: list[Callable[[str], None]] = []  # told of blocks that are written or deleted
        self.group: asyncio.TaskGroup | None = None
        self._holders: dict[str, set[Actor]] = {}
        self._hearing: dict[int, list[Block]] = {}
        self._toolboxes: dict[tuple[tuple[str, bool, bool | None, datetime], ...], Toolbox] = {}
        self._toolbox_bytes = 0

    def check_lease(self) -> None:
        """Raise `DrainingError` unless this host may act for its agents."""
        self.directory.check()

    async def _commit(self, batch: list[Checkpoint]) -> Sequence[Exception | None]:
        verdicts = await self.committer.checkpoint(batch)
        self.wording.committed(batch)
        return verdicts

    def finished_run(self, waiting: Waiting, status: RunStatus) -> None:
        """A run is over and durable."""
        self.load.finish(waiting.run_id)
        for listener in self.on_finished:
            listener(waiting, status)

    def spawn(
        self, function: Callable[..., Coroutine[Any, Any, None]], *args: object
    ) -> asyncio.Task[None] | None:
        """Run a function as a child of the host; what it raises is logged and harms nobody else."""
        if self.group is None:
            return None
        return self.group.create_task(self._guard(function, args))

    async def _guard(
        self, function: Callable[..., Coroutine[Any, Any, None]], args: tuple[object, ...]
    ) -> None:
        try:
            await function(*args)
        except Exception:  # the supervisor: one child's fault must not end its siblings
            log.exception("task failed", extra={"task": function.__qualname__})

    def toolbox(
        self, tools: tuple[Tool, ...], *, strict: bool, terminal: frozenset[str] | None = None
    ) -> Toolbox:
        """Return these tools encoded for models. Agents with the same tools share one.

        `terminal`, which only memgpt agents have, names the tools that end a turn.
        """
        key = tuple(
            (t.id, strict, None if terminal is None else t.name in terminal, t.updated_at) for t in tools
        )
        box = self._toolboxes.get(key)
        if box is None:
            shown = tools
            if terminal is not None:
                shown = tuple(thoughts.with_arguments(t, terminal=t.name in terminal) for t in tools)
            wire = registry.definitions(shown, strict=strict)
            tokens = self.counter.count(wire.decode()) if wire else 0
            self._make_room(len(wire or b""))
            box = self._toolboxes[key] = Toolbox({t.name: t for t in tools}, wire, tokens, strict, terminal)
        return box

    def _make_room(self, size_bytes: int) -> None:
        """Forget the toolboxes that are kept where one more would be too many."""
        if len(self._toolboxes) >= MAX_TOOLBOXES or self._toolbox_bytes + size_bytes > TOOLBOX_BYTES:
            self._toolboxes.clear()
            self._toolbox_bytes = 0
        self._toolbox_bytes += size_bytes

    def offered(self, toolbox: Toolbox, client_tools: tuple[ClientTool, ...]) -> Toolbox:
        """Return a toolbox with tools that the client of a request runs; they hide others of their name."""
        if not client_tools:
            return toolbox
        hidden = {tool.name for tool in client_tools}
        own = (tool for tool in toolbox.tools.values() if tool.name not in hidden)
        given = (_client_row(tool) for tool in client_tools)
        terminal = toolbox.terminal and toolbox.terminal | hidden  # clients take no request for a heartbeat
        return self.toolbox((*own, *given), strict=False, terminal=terminal)

    def some(self, toolbox: Toolbox, names: Iterable[str]) -> Toolbox:
        """Return a toolbox with these of its tools only, encoded alike."""
        tools = tuple(toolbox.tools[name] for name in names)
        return self.toolbox(tools, strict=toolbox.strict, terminal=toolbox.terminal)

    # --- who holds which block --------------------------------------------------------------------

    def hold(self, actor: "Actor", before: set[str], after: set[str]) -> None:
        """Note which blocks an actor holds, so that writes to them find it."""
        for block_id in before - after:
            holders = self._holders.get(block_id, set())
            holders.discard(actor)
            if not holders:
                self._holders.pop(block_id, None)
        for block_id in after - before:
            self._holders.setdefault(block_id, set()).add(actor)

    @contextmanager
    def hearing(self) -> Generator[list[Block]]:
        """Collect the blocks that are written while an actor reads rows that it does not hold yet."""
        heard: list[Block] = []
        self._hearing[id(heard)] = heard
        try:
            yield heard
        finally:
            del self._hearing[id(heard)]

    def spread(self, block: Block, *, but: "Actor | None" = None) -> None:
        """Tell every hot holder of a block its committed value."""
        for heard in self._hearing.values():
            heard.append(block)
        for actor in tuple(self._holders.get(block.id, ())):
            if actor is not but:
                actor.block_is(block)
        for listener in self.on_block:
            listener(block.id)

    def forget_block(self, block_id: str) -> None:
        """A block was deleted: its hot holders drop it."""
        for actor in tuple(self._holders.pop(block_id, ())):
            actor.block_gone(block_id)
        for listener in self.on_block:
            listener(block_id)
