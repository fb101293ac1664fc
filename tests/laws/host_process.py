"""A host in a process of its own, and the nursery that forks such hosts in milliseconds.

    python -m tests.laws.host_process       forks a host for each `Spec` it reads, a line of JSON each

Importing everything takes seconds, so it is done once, in the nursery; its children share it. What
happens to them goes to its standard output, a line of JSON each. When its standard input closes, its
children die, and so does it. `tests.laws.nursery` is the other end of all this.
"""

import asyncio
import base64
import gc
import logging
import os
import pickle
import selectors
import signal
import sys
import traceback
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import cast

import anyio
import msgspec
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.buffered import BufferedByteReceiveStream
from msgspec import Struct

import actors.llm.openai_sdk  # noqa: F401 - or each child would import it at its first call
from actors import commands
from actors.commands import Envelope, InputMessage, Receipt, SendMessages
from actors.errors import ActorError
from actors.events import Event
from actors.host import Health, Host, HostSettings
from actors.llm.catalog import Catalog
from actors.llm.providers import provider_for
from storage.errors import OwnedError, StorageError
from storage.pool import SERVER_SETTINGS, open_lookup_pool, open_pool
from storage.records import DEFAULT_ORGANIZATION, ApprovalPart, TextPart
from tests.laws import failpoints, planted
from tests.laws.failpoints import Failpoint

CLOSE_SECONDS = 5.0
COMMIT_CONNECTIONS = 4
LINE_BYTES = 1 << 20
TRACE_CHARS = 1500  # with its line below PIPE_BUF, so that processes do not mix their lines


class Spec(Struct, frozen=True, kw_only=True):
    """A host to be: where its database and its model are, and what is wrong with it."""

    dsn: str
    provider: str
    name: str = "law-host"
    settings: dict[str, float] = {}
    failpoint: Failpoint | None = None
    planted: tuple[str, ...] = ()
    token: int = 0


# --- what the nursery says -----------------------------------------------------------------------


class Born(Struct, frozen=True, tag="born"):
    """The host of this spec has a process."""

    pid: int
    token: int


class Ready(Struct, frozen=True, tag="ready"):
    """The host owns its agents and listens on this port of the loopback."""

    pid: int
    port: int


class Crashed(Struct, frozen=True, tag="crashed"):
    """The host logged an error that nobody expected."""

    pid: int
    what: str


class Stopped(Struct, frozen=True, tag="stopped"):
    """The process stands still (SIGSTOP)."""

    pid: int


class Ended(Struct, frozen=True, tag="ended"):
    """The process is gone; `status` is its exit code, negative for the signal that killed it."""

    pid: int
    status: int


News = Born | Ready | Crashed | Stopped | Ended


def tell(news: News) -> None:
    """Say what happened, in one write."""
    os.write(sys.stdout.fileno(), msgspec.json.encode(news) + b"\n")


# --- what a host is asked ------------------------------------------------------------------------


class Tell(Struct, frozen=True, tag="tell", kw_only=True):
    """Accept a message, or the approval of a call."""

    agent_id: str
    conversation_id: str
    text: str
    key: str
    when_busy: commands.WhenBusy = "queue"
    approved: str | None = None


class Follow(Struct, frozen=True, tag="follow"):
    """Say the events of a run until it is over."""

    agent_id: str
    run_id: str
    conversation_id: str


class Change(Struct, frozen=True, tag="change"):
    """Apply an edit; it is pickled, because edits have no tags of their own."""

    agent_id: str
    edit: str

    @classmethod
    def of(cls, agent_id: str, edit: commands.Edit) -> "Change":
        """Return the request for an edit."""
        return cls(agent_id, base64.b64encode(pickle.dumps(edit)).decode())


class Cancel(Struct, frozen=True, tag="cancel"):
    """Cancel whatever the agent does or waits for."""

    agent_id: str


class Shorten(Struct, frozen=True, tag="shorten"):
    """Compact the agent's default conversation."""

    agent_id: str


class Look(Struct, frozen=True, tag="look"):
    """Say how the host is doing."""


Asked = Tell | Follow | Change | Cancel | Shorten | Look


class Told(Struct, frozen=True, tag="told"):
    """The command is durable."""

    receipt: Receipt


class Heard(Struct, frozen=True, tag="heard"):
    """Events of a run."""

    events: list[Event]


class Done(Struct, frozen=True, tag="done"):
    """The edit is durable, or the run is over."""


class Looked(Struct, frozen=True, tag="looked"):
    """How the host is doing."""

    health: Health


class Refused(Struct, frozen=True, tag="refused"):
    """The request raised this; a client would see the status code of its class."""

    error: str
    message: str


Said = Told | Heard | Done | Looked | Refused


# --- the host ------------------------------------------------------------------------------------


class Talker:
    """Answers requests of a connection, one after the other, in lines of JSON."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def serve(self, stream: SocketStream) -> None:
        """Answer until the client hangs up."""
        lines = BufferedByteReceiveStream(stream)
        with suppress(anyio.EndOfStream, anyio.IncompleteRead, anyio.BrokenResourceError):
            async with stream:
                while True:
                    line = await lines.receive_until(b"\n", LINE_BYTES)
                    async for said in self._answers(msgspec.json.decode(line, type=Asked)):
                        await stream.send(msgspec.json.encode(said) + b"\n")

    async def _answers(self, asked: Asked) -> AsyncGenerator[Said]:
        try:
            match asked:
                case Tell():
                    yield Told(await self._tell(asked))
                case Change(agent_id, edit):
                    await self._host.ref(agent_id).edit(pickle.loads(base64.b64decode(edit)))
                    yield Done()
                case Follow(agent_id, run_id, conversation_id):
                    async for batch in self._host.ref(agent_id).follow(run_id, conversation_id):
                        yield Heard([logged.event for logged in batch])
                    yield Done()
                case Cancel(agent_id):
                    await self._host.ref(agent_id).cancel()
                    yield Done()
                case Shorten(agent_id):
                    await self._host.ref(agent_id).compact(agent_id)
                    yield Done()
                case Look():
                    yield Looked(self._host.health())
        except (StorageError, ActorError) as error:
            yield Refused(type(error).__name__, str(error))
        except Exception as error:  # noqa: BLE001 - the outermost boundary: a client would see a 500
            yield Refused(type(error).__name__, "".join(traceback.format_exception(error)))

    async def _tell(self, asked: Tell) -> Receipt:
        message = InputMessage(role="user", content=(TextPart(asked.text),))
        approved = asked.approved
        envelope = Envelope(
            command=SendMessages(
                conversation_id=asked.conversation_id,
                messages=(message,) if approved is None else (),
                when_busy=asked.when_busy,
                approvals=() if approved is None else (ApprovalPart(approved, approve=True),),
            ),
            key=asked.key,
            request_hash=asked.text.encode("utf-8", "replace")[-32:],
            caller="law",
            organization_id=DEFAULT_ORGANIZATION,
        )
        return await self._host.ref(asked.agent_id).tell(envelope)


class _Errors(logging.Handler):
    """Sends what is logged as an error with a traceback to the nursery: no fault here justifies one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)

    def emit(self, record: logging.LogRecord) -> None:
        # Who is cancelled while the driver tidies up a dead connection does not hear how that ended.
        tidying = "PoolConnectionHolder.release()" in record.getMessage()
        if (
            record.exc_info is not None
            and not tidying
            and not isinstance(record.exc_info[1], planted.PlantedError)
        ):
            trace = "".join(traceback.format_exception(record.exc_info[1]))
            tell(Crashed(os.getpid(), f"{record.getMessage()}: {trace[-TRACE_CHARS:]}"))


def _stray(query: str) -> None:
    """Tell that a host cannot be killed at this statement."""
    tell(Crashed(os.getpid(), f"no failpoint knows of {query[:TRACE_CHARS]!r}"))


async def live(spec: Spec, lifeline: int) -> None:
    """Run a host until SIGTERM, or until another takes its agents over. Dies with its nursery."""
    asked_to_end = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, asked_to_end.set)
    loop.add_reader(lifeline, os._exit, 1)
    pool, commit_pool = await open_pool(spec.dsn), await open_lookup_pool(spec.dsn, size=COMMIT_CONNECTIONS)
    catalog = Catalog([provider_for("openai", spec.provider, "sk-test")])
    settings = HostSettings(**spec.settings)  # type: ignore[arg-type]
    host = Host(pool, catalog, name=spec.name, commit_pool=commit_pool, lease_dsn=spec.dsn, settings=settings)
    async with anyio.create_task_group() as group:
        while not asked_to_end.is_set():
            try:
                async with host.running():
                    listener = await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=0)
                    group.start_soon(listener.serve, Talker(host).serve)
                    tell(Ready(os.getpid(), listener.extra(SocketAttribute.local_port)))
                    await _either(asked_to_end, host.superseded)
                    break
            except OwnedError as error:
                await anyio.sleep(error.lease_seconds)
        group.cancel_scope.cancel()
    await catalog.aclose()
    with anyio.move_on_after(CLOSE_SECONDS):
        await commit_pool.close()
        await pool.close()


async def _either(*events: asyncio.Event | anyio.Event) -> None:
    """Return once one of the events is set."""
    async with anyio.create_task_group() as group:
        for event in events:
            group.start_soon(_then, event, group.cancel_scope.cancel)


async def _then(event: asyncio.Event | anyio.Event, act: Callable[[], None]) -> None:
    await event.wait()
    act()


def session_name(pid: int) -> str:
    """Return how the database's sessions of this host are called there."""
    return f"law host {pid}"


def be_host(spec: Spec, lifeline: int) -> None:
    """Be the host of this spec: never returns."""
    status = 1
    try:
        logging.basicConfig(handlers=[_Errors()], force=True)
        cast("dict[str, str]", SERVER_SETTINGS)["application_name"] = session_name(os.getpid())
        planted.plant(spec.planted)
        failpoints.arm(spec.failpoint, _stray)
        asyncio.run(live(spec, lifeline))
        status = 0
    except BaseException as error:  # noqa: BLE001 - the end of the process, which must not be the nursery's
        tell(Crashed(os.getpid(), "".join(traceback.format_exception(error))[-TRACE_CHARS:]))
    finally:
        os._exit(status)


# --- the nursery ---------------------------------------------------------------------------------


class Nursery:
    """Forks hosts, and tells when they end."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._children: set[int] = set()
        self._input = b""
        self._bell, ringer = os.pipe()
        os.set_blocking(ringer, False)
        os.set_blocking(self._bell, False)
        signal.set_wakeup_fd(ringer)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self._lifeline, self._kept_open = os.pipe()  # the other end closes when this process ends

    def run(self) -> None:
        self._selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self._selector.register(self._bell, selectors.EVENT_READ)
        while True:
            ready = {key.fd for key, _ in self._selector.select()}
            if self._bell in ready:
                os.read(self._bell, 1024)
                self._bury()
            if sys.stdin.fileno() in ready:
                data = os.read(sys.stdin.fileno(), 65536)
                if not data:
                    return
                *lines, self._input = (self._input + data).split(b"\n")
                for line in lines:
                    self._bear(msgspec.json.decode(line, type=Spec))

    def end(self) -> None:
        """Kill the children that are left."""
        for pid in self._children:
            os.kill(pid, signal.SIGKILL)

    def _bear(self, spec: Spec) -> None:
        pid = os.fork()
        if pid == 0:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(self._kept_open)
            os.dup2(os.open(os.devnull, os.O_RDONLY), sys.stdin.fileno())
            be_host(spec, self._lifeline)
        self._children.add(pid)
        tell(Born(pid, spec.token))

    def _bury(self) -> None:
        for pid in tuple(self._children):
            found, status = os.waitpid(pid, os.WNOHANG | os.WUNTRACED)
            if found and os.WIFSTOPPED(status):
                tell(Stopped(pid))
            elif found:
                self._children.discard(pid)
                tell(Ended(pid, os.waitstatus_to_exitcode(status)))


if __name__ == "__main__":
    failpoints.crossings()  # found out once, for all children
    gc.freeze()
    nursery = Nursery()
    try:
        nursery.run()
    finally:
        nursery.end()
