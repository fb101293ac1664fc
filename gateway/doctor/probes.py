"""Real questions to a model: does it chat, does it stream, does it call tools."""

import time
from contextlib import aclosing

import anyio
import msgspec
from msgspec import Struct

from actors.commands import InputMessage
from actors.errors import ModelError
from actors.llm import encoding
from actors.llm.http import Endpoint
from actors.llm.model import (
    Model,
    ModelRef,
    Piece,
    ReasoningPiece,
    Request,
    TextPiece,
    ToolCallPiece,
)
from actors.llm.providers import Provider
from gateway.doctor import calls
from gateway.doctor.calls import Surgery
from gateway.doctor.findings import Finding, error, ok, warning
from storage.records import ModelSettings, TextPart

# Room for the thoughts of models that think first.
SETTINGS = ModelSettings(max_output_tokens=1024)
LESSONS = 4  # refusals from which one call may learn how the model wants to be spoken to
ABOUT = "You are a test of a model's endpoint."
COUNT = "Count from 1 to 10 in figures, with a space between them, and say nothing else."
NOTE = "Call the tool `note` with the word tea. Say nothing else."
TOOLS = msgspec.json.encode(
    [
        {
            "type": "function",
            "function": {
                "name": "note",
                "description": "Write a word down.",
                "parameters": {
                    "type": "object",
                    "properties": {"word": {"type": "string", "description": "The word."}},
                    "required": ["word"],
                },
            },
        }
    ]
)


class _Heard(Struct, frozen=True):
    """An answer: its pieces, and the seconds until the first of them came."""

    pieces: tuple[Piece, ...]
    first: float

    @property
    def words(self) -> int:
        """How many pieces of text or thought came."""
        return sum(isinstance(piece, TextPiece | ReasoningPiece) for piece in self.pieces)


async def converse(
    surgery: Surgery, provider: Provider, ref: ModelRef, *, known_names: tuple[str, ...]
) -> None:
    """Ask a model for words and for a tool call; show what came, and the window that it is given."""
    show, handle = surgery.show, ref.handle
    model = surgery.catalog.resolve(handle)
    show.looking(f"{handle}: waiting for words, at most {surgery.deadline:.0f} s")
    chat = await _chat(surgery, provider, model, listed=ref.name in known_names or not known_names)
    for finding in chat:
        show.found(finding)
    if any(finding.level == "error" for finding in chat):
        return
    show.found(_window(model.ref))
    show.looking(f"{handle}: waiting for a tool call, at most {surgery.deadline:.0f} s")
    show.found(await _tools(surgery, provider, model))


async def _chat(surgery: Surgery, provider: Provider, model: Model, *, listed: bool) -> list[Finding]:
    """Return what is to be said about chat, and about streaming where it chats at all."""
    check, streaming = f"{model.ref.handle} chat", f"{model.ref.handle} streaming"
    unlisted = "" if listed else ", though the server does not list it"
    try:
        with anyio.fail_after(surgery.deadline):
            heard = await _ask(model, COUNT, tools=None)
    except TimeoutError:
        return [_slow(check, surgery.deadline)]
    except ModelError as problem:
        return await _without_stream(surgery, provider, model, problem)
    if heard.words == 0:
        text = f"it answered with no words{unlisted}"
        return [error(check, text, remedy="choose a model that chats, with WAKEFUL_MODEL")]
    chats = ok(check, f"it answers{unlisted}, first token after {heard.first:.2f} s")
    if heard.words == 1:
        whole = warning(
            streaming,
            "the answer came in one piece: people wait for its end",
            remedy="see whether a proxy before the model server gathers answers",
        )
        return [chats, whole]
    return [chats, ok(streaming, f"{heard.words} pieces")]


async def _without_stream(
    surgery: Surgery, provider: Provider, model: Model, problem: ModelError
) -> list[Finding]:
    """Tell a model that does not answer from one whose streams break."""
    check, streaming = f"{model.ref.handle} chat", f"{model.ref.handle} streaming"
    failure = calls.refused(check, provider, problem)
    if problem.status is not None or provider.type == "azure":
        return [failure]
    body = {"model": model.ref.name, "messages": [{"role": "user", "content": COUNT}], "stream": False}
    try:
        with anyio.fail_after(surgery.deadline):
            endpoint = Endpoint(provider, surgery.catalog.wire)
            answer = await calls.post(endpoint, "/chat/completions", msgspec.json.encode(body))
        text = msgspec.json.decode(answer, type=_Completion).choices[0].message.content
    except (ModelError, TimeoutError, msgspec.MsgspecError, IndexError):
        return [failure]
    if not text:
        return [failure]
    return [
        ok(check, "it answers where the answer is not streamed"),
        error(
            streaming, str(problem), remedy="answers are always streamed: mend the model server or its proxy"
        ),
    ]


class _Words(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    message: _Words


class _Completion(Struct, frozen=True):
    choices: list[_Choice] = []


async def _tools(surgery: Surgery, provider: Provider, model: Model) -> Finding:
    check = f"{model.ref.handle} tools"
    try:
        with anyio.fail_after(surgery.deadline):
            called, choice = await _first_call(model)
    except TimeoutError:
        return _slow(check, surgery.deadline)
    except ModelError as problem:
        finding = calls.refused(check, provider, problem)
        return error(
            check,
            f"requests with tools fail: {finding.text}",
            remedy="choose a model that calls tools; agents edit their memory with them",
        )
    if called is None:
        return warning(
            check,
            "it called no tool when it was told to: agents would not keep anything in memory",
            remedy="choose a model that calls tools, and see whether its server must be started for them "
            "(vLLM: --enable-auto-tool-choice, llama.cpp: --jinja)",
        )
    asked = "" if choice == "auto" else " when it is forced to"
    if model.dialect(SETTINGS).calls == "text":
        asked += ", written as JSON text: its server offers no calls of its own"
    return _judged(check, called, asked)


async def _first_call(model: Model) -> tuple[tuple[str, str] | None, str]:
    """Return (the first call of a model that is asked for one, or forced to it; which of both it took).

    Raises:
        ModelError: A request failed.
    """
    choice = "auto"
    for choice in ("auto", "required"):
        heard = await _ask(model, NOTE, tools=TOOLS, tool_choice=choice)
        if (called := _called(heard)) is not None:
            return called, choice
    return None, choice


def _called(heard: _Heard) -> tuple[str, str] | None:
    """Return name and arguments of the first call, None where there is none."""
    parts = [piece for piece in heard.pieces if isinstance(piece, ToolCallPiece)]
    if not parts:
        return None
    first = [piece for piece in parts if piece.index == parts[0].index]
    return first[0].name, "".join(piece.arguments for piece in first)


def _judged(check: str, called: tuple[str, str], asked: str) -> Finding:
    name, arguments = called
    try:
        word = msgspec.json.decode(arguments or "{}", type=dict[str, object]).get("word")
    except msgspec.MsgspecError:
        word = None
    if name != "note" or not isinstance(word, str):
        return warning(
            check,
            f"its tool call cannot be used: {name[:40]}({arguments[:80]})",
            remedy="choose another model, or see how its server reads tool calls",
        )
    return ok(check, f"it calls tools{asked}")


def _window(ref: ModelRef) -> Finding:
    check, text = f"{ref.handle} window", f"{ref.context_window_tokens} tokens"
    if ref.window_source == "default":
        return warning(
            check,
            f"{text}, a cautious guess: its server does not say",
            remedy="set context_window_limit of the agents to what the server was started with",
        )
    return ok(check, f"{text}, {'as its server says' if ref.window_source == 'server' else 'by its name'}")


def _slow(check: str, deadline: float) -> Finding:
    return error(
        check,
        f"no answer within {deadline:.0f} s",
        remedy="ask again with a longer --timeout: the model may be loading; else see the server's log",
    )


async def _ask(model: Model, text: str, *, tools: bytes | None, tool_choice: str = "auto") -> _Heard:
    """Ask one question and return all that came. What a refusal teaches is used at once, as in a turn.

    Raises:
        ModelError: The call failed.
    """
    for _ in range(LESSONS):
        try:
            return await _ask_once(model, text, tools=tools, tool_choice=tool_choice)
        except ModelError as problem:
            if not problem.learned:
                raise
    return await _ask_once(model, text, tools=tools, tool_choice=tool_choice)


async def _ask_once(model: Model, text: str, *, tools: bytes | None, tool_choice: str) -> _Heard:
    begun = time.monotonic()
    first = 0.0
    pieces: list[Piece] = []
    dialect = model.dialect(SETTINGS)
    said = (
        InputMessage(role="system", content=(TextPart(ABOUT),)),
        InputMessage(role="user", content=(TextPart(text),)),
    )
    request = Request(
        messages=[encoding.encode_input(message, dialect) for message in said],
        tools=tools,
        tool_choice=tool_choice,
        settings=SETTINGS,
        key="",
        dialect=dialect,
    )
    async with aclosing(model.stream(request)) as answer:
        async for batch in answer:
            first = first or time.monotonic() - begun
            pieces += batch
    return _Heard(tuple(pieces), first)
