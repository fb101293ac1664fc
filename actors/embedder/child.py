"""The embedder's child process: reads batches from its input and writes vectors to its output."""

import contextlib
import ctypes
import os
import signal
import sys
from typing import BinaryIO

from actors.embedder import frames
from actors.embedder.frames import Failed, FrameError, Ready, Texts, Vectors

PR_SET_PDEATHSIG = 1
# Out of memory, the kernel shall take this process and not the server: it is back in a second.
OOM_SCORE = "800"


def main(parent: int) -> None:
    """Serve the process `parent` until it closes the pipe or dies."""
    _tie_to(parent)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints must not end up between frames
    try:
        serve(sys.stdin.buffer, answers)
    except (BrokenPipeError, FrameError):
        return


def serve(asked: BinaryIO, answers: BinaryIO) -> None:
    """Load the model and answer batches until the input ends."""

    def send(message: frames.Answer) -> None:
        answers.write(frames.frame(message))
        answers.flush()

    try:
        from actors.embedder import minilm
    except ImportError as error:
        send(Failed(f"the library {error.name} is not installed"))
        return
    try:
        model = minilm.load()
        send(Ready(minilm.DIMENSIONS))
        while (batch := _read(asked)) is not None:
            vectors = model.embed(batch.texts)
            send(Vectors(batch.number, minilm.DIMENSIONS, vectors.astype("<f4").tobytes()))
    except (BrokenPipeError, FrameError):
        raise
    except minilm.LoadError as error:
        send(Failed(str(error)))
    except Exception as error:  # noqa: BLE001 - the outermost boundary: the server learns why, and starts another
        send(Failed(type(error).__name__))


def _read(asked: BinaryIO) -> Texts | None:
    head = asked.read(frames.HEAD.size)
    if len(head) < frames.HEAD.size:
        return None
    size = frames.length(head)
    data = asked.read(size)
    return frames.texts(data) if len(data) == size else None


def _tie_to(parent: int) -> None:
    """End when the server does. The order matters: it may have died before the signal was asked for."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
            file.write(OOM_SCORE)
    if os.getppid() != parent:
        sys.exit(0)
