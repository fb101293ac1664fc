"""run_code: code of a model runs in a sandbox of E2B, never on this machine. https://e2b.dev/docs (2026)."""

import contextlib
import importlib
from collections.abc import Callable, Coroutine, Iterable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, Protocol, cast

import anyio
import anyio.to_thread
import msgspec

from actors.tools.outside import Invocation
from actors.tools.results import ToolError
from storage.records import JsonObject

RUN_SECONDS = 180.0  # for the code itself
START_SECONDS = 60.0  # for a sandbox to be there
KILL_SECONDS = 5.0
OUTPUT_CHARS = 12_000  # of each of: results, what was printed, errors, the traceback
EXTRA = "e2b"
MODULE = "e2b_code_interpreter"

_NAMES = {"js": "javascript", "ts": "typescript"}
_NEVER_HERE = (
    "Code of a model is never run on the server itself; until then do without, or work it out in words"
)
NO_KEY = (
    "run_code runs code in a sandbox of E2B, and E2B_API_KEY is not set where this server runs. Ask the "
    f"person who runs it to get a key at https://e2b.dev and set it. {_NEVER_HERE}"
)
NO_SDK = (
    "run_code needs E2B's library, which is not installed where this server runs. Ask the person who runs "
    f"it to do so: pip install 'wakeful[{EXTRA}]'. {_NEVER_HERE}"
)


class _Result(Protocol):
    @property
    def text(self) -> str | None: ...
    def formats(self) -> Iterable[str]: ...


class _Logs(Protocol):
    stdout: Sequence[str]
    stderr: Sequence[str]


class _Fault(Protocol):
    name: str
    value: str
    traceback: str


class _Execution(Protocol):
    results: Sequence[_Result]
    logs: _Logs
    error: _Fault | None


class _Sandbox(Protocol):
    async def run_code(self, code: str, *, language: str, timeout: float) -> _Execution: ...
    async def kill(self) -> bool: ...


class _Sandboxes(Protocol):
    async def create(self, *, api_key: str, timeout: int) -> _Sandbox: ...


def installed() -> bool:
    """Say whether E2B's library is there."""
    return find_spec(MODULE) is not None


class CodeSandbox:
    """Runs each call in a sandbox of its own, which is gone afterwards."""

    def __init__(self, *, api_key: str | None) -> None:
        self._api_key = api_key

    async def run(self, invocation: Invocation) -> str:
        """Return what the code gave, as JSON with `results`, `logs` and, where it failed, `error`.

        Cancelling leaves unknown how far the code came; its sandbox is stopped, at the latest by its own
        time limit.

        Raises:
            ToolError: There is no key, no library, or no sandbox; or the code took too long.
        """
        if self._api_key is None:
            raise ToolError(NO_KEY)
        if not installed():
            raise ToolError(NO_SDK)
        sandbox = await self._create(self._api_key)
        try:
            execution = await self._run(sandbox, invocation.arguments)
        finally:
            with anyio.move_on_after(KILL_SECONDS, shield=True):
                await _kill(sandbox)
        return msgspec.json.encode(_shown(execution)).decode()

    async def _create(self, api_key: str) -> _Sandbox:
        sdk = await anyio.to_thread.run_sync(importlib.import_module, MODULE)
        sandboxes = cast("_Sandboxes", sdk.AsyncSandbox)
        lifetime = int(START_SECONDS + RUN_SECONDS + KILL_SECONDS)
        try:
            with anyio.fail_after(START_SECONDS):
                return await sandboxes.create(api_key=api_key, timeout=lifetime)
        except TimeoutError as error:
            raise ToolError(f"E2B gave no sandbox within {START_SECONDS:.0f} s; try again later") from error
        except Exception as error:  # the SDK has no base error: its own, httpx's, and its transport's
            raise ToolError(_refusal(error, api_key)) from error

    async def _run(self, sandbox: _Sandbox, arguments: JsonObject) -> _Execution:
        language: str = arguments["language"]
        language = _NAMES.get(language, language)
        try:
            with anyio.fail_after(RUN_SECONDS + KILL_SECONDS):
                return await _heeding(
                    partial(sandbox.run_code, arguments["code"], language=language, timeout=RUN_SECONDS)
                )
        except Exception as error:  # as above; what the code itself raises comes as its result
            if isinstance(error, TimeoutError) or type(error).__name__ == "TimeoutException":
                why = f"the code did not end within {RUN_SECONDS:.0f} s and was stopped; give it less to do"
            else:
                why = f"the sandbox was lost ({type(error).__name__}); nobody knows how far the code came"
            raise ToolError(why) from error


async def _heeding(call: Callable[[], Coroutine[Any, Any, _Execution]]) -> _Execution:
    """Await a call of the SDK, whose transport may lose a cancellation: it is told again until it ends."""
    ended: list[_Execution | Exception] = []

    async def child() -> None:
        try:
            ended.append(await call())
        except Exception as error:  # noqa: BLE001 - raised below, not in a group
            ended.append(error)

    async with anyio.create_task_group() as group:
        group.start_soon(child)
    (outcome,) = ended
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


async def _kill(sandbox: _Sandbox) -> None:
    with contextlib.suppress(Exception):  # see `_create`; what cannot be stopped ends by its time limit
        await sandbox.kill()


def _refusal(error: Exception, api_key: str) -> str:
    match type(error).__name__:
        case "AuthenticationException":
            return "E2B refuses the key: E2B_API_KEY has to be corrected where this server runs"
        case "RateLimitException":
            return "E2B gives no more sandboxes for now; wait a little and try again"
        case name:
            said = str(error).replace(api_key, "***")[:300]
            return f"E2B gave no sandbox ({name}: {said}); try again later"


def _shown(execution: _Execution) -> JsonObject:
    shown: JsonObject = {
        "results": _cut([_text(result) for result in execution.results]),
        "logs": {"stdout": _cut(execution.logs.stdout), "stderr": _cut(execution.logs.stderr)},
    }
    if execution.error is not None:
        fault = execution.error
        (traceback,) = _cut([fault.traceback]) or [""]
        shown["error"] = {"name": fault.name, "value": fault.value[:OUTPUT_CHARS], "traceback": traceback}
    return shown


def _text(result: _Result) -> str:
    return result.text if result.text is not None else f"[{', '.join(result.formats())}]"


def _cut(pieces: Sequence[str]) -> list[str]:
    """Return the pieces up to a limit of characters, and say where something is left out."""
    kept: list[str] = []
    left = OUTPUT_CHARS
    for piece in pieces:
        if len(piece) > left:
            whole = sum(map(len, pieces))
            return [*kept, f"{piece[:left]}... [{whole} characters in all]"]
        kept.append(piece)
        left -= len(piece)
    return kept
