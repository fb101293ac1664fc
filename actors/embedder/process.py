"""One child process of the embedder: started, asked, stopped."""

import asyncio
import contextlib
import logging
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio

from actors.embedder import frames
from actors.embedder.frames import Failed, FrameError, Ready, Texts, Vectors

log = logging.getLogger("wakeful.embedder")

START_SECONDS = 30.0  # the model is loaded in half a second of CPU; a busy machine gives that late
BATCH_SECONDS = 60.0  # a batch is about half a second of CPU
STOP_SECONDS = 2.0

_CODE = """
import sys
sys.path.insert(0, sys.argv[1])
from actors.embedder import child
child.main(int(sys.argv[2]))
"""
# Not the server's environment: that holds keys of other services. One thread: the machine is the agents'.
_ENVIRONMENT: Mapping[str, str] = {
    "LC_ALL": "C.UTF-8",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
}


class LostError(Exception):
    """The child is gone or no longer makes sense; what it was asked may be asked of another one."""


class UnusableError(Exception):
    """The model cannot be used on this machine; another child would say the same. The message says why."""


class Child:
    """A running child. Linux ties it to the thread that made it, so it ends with the event loop's."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._number = 0
        self.dimensions = 0

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self._process.pid if self._process.returncode is None else None

    async def embed(self, texts: Sequence[str]) -> list[tuple[float, ...]]:
        """Return a vector for each text. One batch at a time; after an error or a cancellation stop it.

        Raises:
            LostError: There is no answer.
            UnusableError: It gave up.
        """
        self._number += 1
        batch = Texts(self._number, texts)
        try:
            async with asyncio.timeout(BATCH_SECONDS):
                match await self._ask(frames.frame(batch)):
                    case Vectors() as vectors:
                        return frames.unpack(vectors, batch)
                    case Failed(reason):
                        raise LostError(reason)
                    case Ready():
                        raise LostError("an answer out of turn")
        except TimeoutError as error:
            raise LostError(f"no answer within {BATCH_SECONDS:.0f} s") from error
        except FrameError as error:
            raise LostError(str(error)) from error

    async def stop(self) -> None:
        """Kill it: it keeps no state. Returns when it has ended, also while cancelled."""
        with anyio.move_on_after(STOP_SECONDS, shield=True):
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.communicate()
            return
        log.error("embedder cannot be stopped", extra={"pid": self._process.pid})

    async def load(self) -> None:
        """Wait until the model is loaded.

        Raises:
            LostError: It died or is too slow.
            UnusableError: The model cannot be used on this machine.
        """
        try:
            async with asyncio.timeout(START_SECONDS):
                match await self._ask(b""):
                    case Ready(dimensions):
                        self.dimensions = dimensions
                    case Failed(reason):
                        raise UnusableError(reason)
                    case Vectors():
                        raise LostError("an answer out of turn")
        except TimeoutError as error:
            raise LostError(f"not loaded within {START_SECONDS:.0f} s") from error
        except FrameError as error:
            raise LostError(str(error)) from error

    async def _ask(self, data: bytes) -> frames.Answer:
        stdin, stdout = self._process.stdin, self._process.stdout
        assert stdin is not None, "it was started with pipes"
        assert stdout is not None, "it was started with pipes"
        try:
            stdin.write(data)
            await stdin.drain()
            size = frames.length(await stdout.readexactly(frames.HEAD.size))
            return frames.answer(await stdout.readexactly(size))
        except (OSError, asyncio.IncompleteReadError) as error:
            raise LostError("it died") from error


async def start() -> Child:
    """Start a child and wait until its model is loaded. Cancelling leaves none behind.

    Raises:
        LostError: It died, is too slow, or the machine has no room for a process.
        UnusableError: The model cannot be used on this machine.
    """
    root = str(Path(__file__).parents[2])
    command = [sys.executable, "-I", "-c", _CODE, root, str(os.getpid())]
    try:
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=PIPE,
            stdout=PIPE,
            stderr=DEVNULL,
            cwd="/",
            env=_ENVIRONMENT,
            start_new_session=True,  # Ctrl-C at the terminal is for the server, which then stops it
        )
    except OSError as error:
        raise LostError(f"it cannot be started: {error.strerror}") from error
    child = Child(process)
    try:
        await child.load()
    except BaseException:  # cancelled, above all: nobody else would stop the process
        await child.stop()
        raise
    log.info("embedder started", extra={"pid": process.pid})
    return child


def rss_bytes(pid: int) -> int | None:
    """Return the resident memory of a process where Linux tells it."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return None
    return pages * os.sysconf("SC_PAGE_SIZE")
