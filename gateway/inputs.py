"""What clients may send to an agent: request bodies, checked and turned into a command. Pure."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Annotated, Literal, cast, get_args

import msgspec
from msgspec import Meta, Struct

from actors.commands import ClientSkill, Decision, InputMessage, InputRole, SendMessages, WhenBusy
from gateway import absent, decisions, images
from gateway.decisions import DecisionIn
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.letta.shapes import MessageType
from storage.records import ImagePart, JsonObject, TextPart

MAX_STEPS = 1_000_000
MAX_MESSAGES = 1000
MAX_OTID_CHARS = 256
MAX_NAME_CHARS = 256
MAX_SKILLS = 512
MAX_SKILL_NAME_CHARS = 4096  # of a name or a location, which may be a path

Content = tuple[TextPart | ImagePart, ...]


class MessageIn(Struct, frozen=True, kw_only=True):
    """One message of a request. `role` and `content` belong to the type `message`.

    The others answer what the conversation waits for: `approval` with `approvals` (or, as older clients do
    it, with `approve`, `approval_request_id` and `reason`), `tool_return` with `tool_returns`.
    """

    type: Literal["message", "approval", "tool_return"] | None = "message"
    role: InputRole | None = None
    content: str | Content | None = None
    name: str | None = None
    otid: str | None = None
    sender_id: str | None = None
    group_id: str | None = None
    approvals: tuple[DecisionIn, ...] | None = None
    approve: bool | None = None
    approval_request_id: str | None = None
    reason: str | None = None
    tool_returns: tuple[DecisionIn, ...] | None = None


class SendRequest(Struct, frozen=True, kw_only=True):
    """Send messages to an agent and let it answer: exactly one of `messages` and `input`.

    `streaming` is false on an agent's route and true on a conversation's where it is not given.
    `otid`s make a request repeatable: the same ones name the same run for 24 hours.
    """

    messages: tuple[MessageIn, ...] | None = None
    input: str | Content | None = None
    max_steps: Annotated[int, Meta(ge=1, le=MAX_STEPS)] = 50
    streaming: bool | None = None
    stream_tokens: bool = False
    include_pings: bool = True
    background: bool = False
    include_return_message_types: tuple[MessageType, ...] | None = None
    override_model: str | None = None
    override_system: str | None = None
    system: str | None = None
    client_tools: tuple[JsonObject, ...] | None = None
    client_skills: tuple[ClientSkill, ...] | None = None
    include_compaction_messages: bool = False
    return_logprobs: bool = False
    top_logprobs: int | None = None
    return_token_ids: bool = False
    use_assistant_message: bool = True
    assistant_message_tool_name: str = "send_message"
    assistant_message_tool_kwarg: str = "message"
    agent_id: str | None = None
    callback_url: str | None = None


def when_busy(header: bytes | None, default: WhenBusy) -> WhenBusy:
    """Return what the header `X-Wakeful-When-Busy` asks for.

    Raises:
        InvalidRequestError: It is none of the four words.
    """
    if header is None:
        return default
    word = header.decode("latin-1").strip().lower()
    if word not in get_args(WhenBusy):
        raise InvalidRequestError("X-Wakeful-When-Busy must be queue, steer, interrupt or reject")
    return cast("WhenBusy", word)


def check_options(request: SendRequest, *, streaming: bool) -> None:
    """Refuse options that contradict each other, or that this release would have to ignore.

    Raises:
        InvalidRequestError: An option needs `streaming`.
        NotSupportedError: An option belongs to a later release.
    """
    if not streaming:
        for name, given in (
            ("stream_tokens", request.stream_tokens),
            ("background", request.background),
            ("include_pings", not request.include_pings),
        ):
            if given:
                raise InvalidRequestError(f"{name} is only possible with streaming=true", param=f"/{name}")
    for name, used in (
        ("return_logprobs", request.return_logprobs),
        ("top_logprobs", request.top_logprobs),
        ("return_token_ids", request.return_token_ids),
    ):
        if used:
            raise absent.field(name)


def messages_of(request: SendRequest) -> tuple[InputMessage, ...]:
    """Return the messages of a request.

    Raises:
        InvalidRequestError: There are none, both or neither of `messages` and `input` are given, or one
            has no role, no content, or content of a kind that its role cannot have.
        BadArgumentError: An answer comes after an ordinary message.
    """
    if (request.messages is None) == (request.input is None):
        raise InvalidRequestError("give exactly one of messages and input", param="/messages")
    if request.input is not None:
        return (InputMessage(role="user", content=_content(request.input, "/input")),)
    messages = request.messages or ()
    if not messages:
        raise InvalidRequestError("messages must not be empty", param="/messages")
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequestError(f"at most {MAX_MESSAGES} messages fit one request", param="/messages")
    first = next((place for place, message in enumerate(messages) if not is_answer(message)), len(messages))
    for place, message in enumerate(messages):
        if place > first and is_answer(message):
            raise BadArgumentError(
                "an approval or a tool return comes before the messages that follow it",
                param=f"/messages/{place}",
            )
    return tuple(
        message_of(message, f"/messages/{place}") for place, message in enumerate(messages) if place >= first
    )


def is_answer(message: MessageIn) -> bool:
    """Say whether a message answers what the conversation waits for."""
    return message.type in ("approval", "tool_return")


def sequence_of(messages: Sequence[MessageIn], param: str) -> tuple[InputMessage, ...]:
    """Return messages that a client puts into a history at `param` of its request.

    Raises:
        InvalidRequestError: There are too many, or one has no role, no content, or content of a kind
            that its role cannot have.
    """
    if len(messages) > MAX_MESSAGES:
        raise InvalidRequestError(f"at most {MAX_MESSAGES} messages fit one request", param=param)
    return tuple(message_of(message, f"{param}/{place}") for place, message in enumerate(messages))


def decisions_of(request: SendRequest) -> tuple[Decision, ...]:
    """Return the answers of a request, in its order; empty where it has none.

    Raises:
        InvalidRequestError, NotSupportedError: One does not say what it answers, or how, or it holds an image
            that no provider could be sent.
    """
    found: list[Decision] = []
    for place, message in enumerate(request.messages or ()):
        if is_answer(message):
            found += _decisions_of(message, f"/messages/{place}")
    return tuple(found)


def _decisions_of(answer: MessageIn, at: str) -> list[Decision]:
    if answer.type == "tool_return":
        if not answer.tool_returns:
            raise InvalidRequestError("a tool return needs tool_returns", param=f"{at}/tool_returns")
        return decisions.of_approvals(answer.tool_returns, f"{at}/tool_returns")
    if answer.approvals:
        return decisions.of_approvals(answer.approvals, f"{at}/approvals")
    return [decisions.legacy(answer.approval_request_id, answer.approve, answer.reason, at)]


def message_of(message: MessageIn, at: str) -> InputMessage:
    """Return one message; `at` points at it in its request.

    Raises:
        InvalidRequestError: It has no role, no content, or content of a kind that its role cannot have.
    """
    if message.role is None:
        raise InvalidRequestError("a message needs a role: user, system or assistant", param=f"{at}/role")
    if message.content is None:
        raise InvalidRequestError("a message needs content", param=f"{at}/content")
    for name, value, limit in (
        ("otid", message.otid, MAX_OTID_CHARS),
        ("name", message.name, MAX_NAME_CHARS),
        ("sender_id", message.sender_id, MAX_NAME_CHARS),
    ):
        if value is not None and not 0 < len(value) <= limit:
            raise InvalidRequestError(f"{name} must have 1 to {limit} characters", param=f"{at}/{name}")
    content = _content(message.content, f"{at}/content")
    if message.role != "user" and any(isinstance(part, ImagePart) for part in content):
        raise InvalidRequestError("only user messages may hold images", param=f"{at}/content")
    return InputMessage(
        role=message.role,
        content=content,
        name=message.name,
        otid=message.otid,
        sender_id=message.sender_id,
    )


def _content(content: str | Content, at: str) -> Content:
    if isinstance(content, str):
        return (TextPart(content),)
    if not content:
        raise InvalidRequestError("content must not be empty", param=at)
    for place, part in enumerate(content):
        if isinstance(part, ImagePart):
            images.check(part.source, f"{at}/{place}/source")
    return content


# --- what makes a request the same one -----------------------------------------------------------


# How a run's stream is written: settings of a request, and what they are where it names none.
_WRITING = {
    name: getattr(SendRequest(), name)
    for name in (
        "use_assistant_message",
        "assistant_message_tool_name",
        "assistant_message_tool_kwarg",
        "include_return_message_types",
        "stream_tokens",
        "include_compaction_messages",
    )
}


def command_of(
    request: SendRequest,
    messages: tuple[InputMessage, ...],
    *,
    conversation_id: str,
    busy: WhenBusy,
    run_type: str,
) -> SendMessages:
    """Return the command that a request stands for. `request_config` keeps how its stream is written.

    Only what the request set to something else than is usual: it is stored with the command and the run.
    """
    answers = decisions_of(request)
    return SendMessages(
        conversation_id=conversation_id,
        messages=messages,
        approvals=answers,
        approvals_otid=_answer_otid(request),
        client_tools=decisions.client_tools(request.client_tools),
        client_skills=_skills(request.client_skills or ()),
        max_steps=request.max_steps,
        when_busy="queue" if answers else busy,
        background=request.background or run_type.endswith("async"),
        model=request.override_model,
        system=request.override_system or request.system,
        callback_url=request.callback_url,
        request_config={
            **{
                name: set_to
                for name, usual in _WRITING.items()
                if (set_to := getattr(request, name)) != usual
            },
            "run_type": run_type,
        },
    )


def hash_of(agent_id: str, command: SendMessages) -> bytes:
    """Return the SHA-256 of what a request asks the agent to do, however its answer is delivered."""
    same = msgspec.structs.replace(
        command, when_busy="queue", background=False, callback_url=None, request_config={}
    )
    return sha256(agent_id.encode() + b"\n" + msgspec.json.encode(same)).digest()


def _skills(given: tuple[ClientSkill, ...]) -> tuple[ClientSkill, ...]:
    """Return the skills as they came, if they are not too many or too long."""
    if len(given) > MAX_SKILLS:
        raise InvalidRequestError(f"at most {MAX_SKILLS} skills may be offered", param="/client_skills")
    for place, skill in enumerate(given):
        for name, text in (("name", skill.name), ("location", skill.location)):
            if not 0 < len(text) <= MAX_SKILL_NAME_CHARS:
                raise InvalidRequestError(
                    f"the {name} of a skill has 1 to {MAX_SKILL_NAME_CHARS} characters",
                    param=f"/client_skills/{place}/{name}",
                )
        if len(skill.description) > decisions.MAX_DESCRIPTION_CHARS:
            raise InvalidRequestError(
                f"a description has at most {decisions.MAX_DESCRIPTION_CHARS} characters",
                param=f"/client_skills/{place}/description",
            )
    return given


def _answer_otid(request: SendRequest) -> str | None:
    """Return the otid of the first answer that has one."""
    for place, message in enumerate(request.messages or ()):
        if is_answer(message) and message.otid is not None:
            if not 0 < len(message.otid) <= MAX_OTID_CHARS:
                raise InvalidRequestError(
                    f"otid must have 1 to {MAX_OTID_CHARS} characters", param=f"/messages/{place}/otid"
                )
            return message.otid
    return None


def key_of(command: SendMessages) -> str | None:
    """Return the idempotency key that a request's otids make, or `None` where it has none."""
    given = (command.approvals_otid, *(message.otid for message in command.messages))
    otids = [otid for otid in given if otid is not None]
    return f"otid-{sha256('|'.join(otids).encode()).hexdigest()}" if otids else None
