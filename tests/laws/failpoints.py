"""Places where a host can be made to die or freeze: around every await that crosses Postgres or the model.

No production code knows of them: `arm` wraps the functions from outside. A point is
`<module>.<function>:<moment>`. `before` and `after` are the edges of the call; `sent` is each moment in
which it waits for the server, so that its statement is on its way and will be executed although nobody
hears the answer. An edit's transaction has `inside` (its fence was checked) and `closing` (its COMMIT
is next) instead. A model's stream has `piece` after each batch of pieces.

A statement that reaches Postgres past every point is told to `on_stray`: nothing could die there.
"""

import ast
import functools
import inspect
import os
import signal
import sys
import types
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Iterator
from contextlib import AbstractAsyncContextManager, aclosing, asynccontextmanager, contextmanager
from contextvars import ContextVar
from types import ModuleType
from typing import Any, Literal

from msgspec import Struct

from actors.llm.http import OpenAIChat
from storage import edits, pool

STREAM = "model.stream"
OPEN = "model.open"  # of a head start, while its command is being accepted
TRANSACTION = "edits.commit"

# Who calls storage inside a step or an edit: the actors, and the parts of storage that write a step.
CALLERS = ("actors.", "storage.checkpoints", "storage.extras")
# Not among them: what is written beside steps and edits, by a clock, and may be lost with a crash; and what a
# door reads before anything is accepted.
BESIDE = ("calibrations.save", "standing.heard")
STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")


class Failpoint(Struct, frozen=True):
    """Where, the how manieth time, and what happens there: `kill` is SIGKILL, `stop` is SIGSTOP."""

    point: str
    nth: int = 1
    action: Literal["kill", "stop"] = "kill"


class _Armed:
    """What this process is to do at its failpoint, and how often it came by each point."""

    def __init__(self) -> None:
        self.failpoint: Failpoint | None = None
        self.reached: Counter[str] = Counter()


_armed = _Armed()
_known: ContextVar[bool] = ContextVar("known", default=False)


def reach(point: str) -> None:
    """Die or freeze here if this is the armed failpoint and its turn has come."""
    _armed.reached[point] += 1
    failpoint = _armed.failpoint
    if failpoint is not None and (point, _armed.reached[point]) == (failpoint.point, failpoint.nth):
        os.kill(os.getpid(), signal.SIGKILL if failpoint.action == "kill" else signal.SIGSTOP)


def arm(failpoint: Failpoint | None, on_stray: Callable[[str], None]) -> None:
    """Wrap every crossing of this process, and choose the one that fails. Once per process.

    `on_stray` is called with each statement that is sent outside of them all.
    """
    _armed.failpoint = failpoint
    for module, name in crossings():
        function = getattr(module, name)
        setattr(module, name, _wrapped(name_of(module, name), function))
    edits.commit = _wrapped_transaction(edits.commit)
    OpenAIChat.open = _wrapped(OPEN, OpenAIChat.open)
    OpenAIChat.stream = _wrapped_stream(OpenAIChat.stream)
    _watch_statements(on_stray)


def points() -> list[str]:
    """Return every point there is: a crossing that somebody adds to the actors is in it at once."""
    names = [name for name in (name_of(*crossing) for crossing in crossings()) if name not in BESIDE]
    found = [f"{name}:{moment}" for name in (*names, OPEN) for moment in ("before", "sent", "after")]
    found += [f"{TRANSACTION}:{moment}" for moment in ("before", "inside", "closing", "after")]
    return sorted(found + [f"{STREAM}:{moment}" for moment in ("before", "piece", "after")])


@functools.cache
def crossings() -> tuple[tuple[ModuleType, str], ...]:
    """Return the storage functions that speak to Postgres and that `CALLERS` call, by module and name."""
    found: set[tuple[ModuleType, str]] = set()
    for holder in [m for name, m in tuple(sys.modules.items()) if name.startswith(CALLERS)]:
        for node in ast.walk(ast.parse(inspect.getsource(holder))):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
                module = vars(holder).get(node.value.id)
                if isinstance(module, ModuleType) and _speaks(getattr(module, node.attr, None)):
                    found.add((module, node.attr))
        copied = [name for name, v in vars(holder).items() if _speaks(v) and v.__module__ != holder.__name__]
        assert not copied, f"{holder.__name__} must call {copied} by their module, or no failpoint finds them"
    return tuple(sorted(found, key=lambda crossing: name_of(*crossing)))


def _speaks(value: object) -> bool:
    """Say whether this is a function of storage that takes a connection: `conn` comes first there."""
    return (
        inspect.iscoroutinefunction(value)
        and value.__module__.startswith("storage.")
        and next(iter(inspect.signature(value).parameters), "") == "conn"
    )


def name_of(module: ModuleType, name: str) -> str:
    """Return what a crossing's points begin with."""
    return f"{module.__name__.removeprefix('storage.')}.{name}"


def _wrapped(
    name: str, function: Callable[..., Coroutine[Any, Any, Any]]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(function)
    async def crossing(*args: object, **kwargs: object) -> object:
        reach(f"{name}:before")
        with _knowing():
            result = await _watched(function(*args, **kwargs), lambda: reach(f"{name}:sent"))
        reach(f"{name}:after")
        return result

    return crossing


@types.coroutine
def _watched(coroutine: Coroutine[Any, Any, Any], waiting: Callable[[], None]) -> Generator[Any, Any, Any]:
    """Await a coroutine; call `waiting` whenever it begins to wait, after what it wrote was sent."""
    inner = coroutine.__await__()
    try:
        future = inner.send(None)
        while True:
            waiting()
            try:
                value = yield future
            except BaseException as error:  # noqa: BLE001 - passed on to where it belongs
                future = inner.throw(error)
            else:
                future = inner.send(value)
    except StopIteration as end:
        return end.value


def _wrapped_transaction(transaction: Callable[..., Any]) -> Callable[..., Any]:
    @asynccontextmanager
    async def commit(*args: object, **kwargs: object) -> AsyncGenerator[Any, None]:
        reach(f"{TRANSACTION}:before")
        async with _Known(transaction(*args, **kwargs)) as conn:
            reach(f"{TRANSACTION}:inside")
            yield conn
            reach(f"{TRANSACTION}:closing")
        reach(f"{TRANSACTION}:after")

    return commit


def _wrapped_stream(stream: Callable[..., AsyncGenerator[Any, None]]) -> Callable[..., Any]:
    async def watched(
        self: OpenAIChat, request: object, take: Callable[[Any], None] | None = None, *opened: object
    ) -> AsyncGenerator[Any, None]:
        def taken(pieces: object) -> None:
            assert take is not None
            take(pieces)
            reach(f"{STREAM}:piece")

        reach(f"{STREAM}:before")
        async with aclosing(stream(self, request, None if take is None else taken, *opened)) as batches:
            async for pieces in batches:
                yield pieces
                reach(f"{STREAM}:piece")
        reach(f"{STREAM}:after")

    return watched


# --- what no point knows of ------------------------------------------------------------------------


@contextmanager
def _knowing() -> Iterator[None]:
    token = _known.set(True)
    try:
        yield
    finally:
        _known.reset(token)


class _Known:
    """A transaction whose beginning and end are known; what is sent between them is not by this alone."""

    def __init__(self, transaction: AbstractAsyncContextManager[Any]) -> None:
        self._transaction = transaction

    async def __aenter__(self) -> Any:
        with _knowing():
            return await self._transaction.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: types.TracebackType | None
    ) -> bool | None:
        with _knowing():
            return await self._transaction.__aexit__(kind, error, trace)


def _watch_statements(on_stray: Callable[[str], None]) -> None:
    """Tell of the statements that this process sends outside of all points, but those of a new connection."""
    for name in STATEMENTS:
        setattr(pool._Connection, name, _told(getattr(pool._Connection, name), on_stray))
    pool._set_codecs = _knowingly(pool._set_codecs)
    pool._learn_types = _knowingly(pool._learn_types)


def _told(
    send: Callable[..., Coroutine[Any, Any, Any]], on_stray: Callable[[str], None]
) -> Callable[..., Coroutine[Any, Any, Any]]:
    @functools.wraps(send)
    async def told(self: object, query: str, *args: object, **kwargs: object) -> object:
        if not _known.get():
            on_stray(query)
        return await send(self, query, *args, **kwargs)

    return told


def _knowingly(
    function: Callable[..., Coroutine[Any, Any, None]],
) -> Callable[..., Coroutine[Any, Any, None]]:
    async def known(conn: object) -> None:
        with _knowing():
            await function(conn)

    return known
