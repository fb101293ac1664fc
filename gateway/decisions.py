"""What clients say to a request that waits: decisions on calls, and results of calls they ran. Pure."""

import re
from collections.abc import Sequence
from typing import Literal

import msgspec
from msgspec import UNSET, Struct, UnsetType

from actors.approvals import ONLY_CALL
from actors.commands import Decision
from gateway import images
from gateway.errors import InvalidRequestError
from storage.pending_records import ClientTool
from storage.records import ApprovalPart, ImagePart, JsonObject, TextPart, ToolReturnPart

MAX_ID_CHARS = 256
MAX_REASON_CHARS = 10_000
MAX_CLIENT_TOOLS = 128
MAX_DESCRIPTION_CHARS = 10_000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class DecisionIn(Struct, frozen=True, kw_only=True):
    """An answer to one call: `approval` decides on it, `tool` is its result as the client got it.

    `arguments` (JSON text or an object) replace those that the model wrote.
    """

    type: Literal["approval", "tool"] | None = None
    tool_call_id: str
    approve: bool | None = None
    reason: str | None = None
    arguments: str | JsonObject | None = None
    tool_return: str | tuple[TextPart | ImagePart, ...] | None = None
    status: Literal["success", "error"] | None = None
    stdout: tuple[str, ...] | None = None
    stderr: tuple[str, ...] | None = None


def of_approvals(approvals: Sequence[DecisionIn], at: str) -> list[Decision]:
    """Return the decisions of a list.

    Raises:
        InvalidRequestError: One says neither what to do nor what came out, says it twice, or holds an image
            that no provider could be sent.
        NotSupportedError: A result holds an image by its file.
    """
    return [_decision(one, f"{at}/{place}") for place, one in enumerate(approvals)]


def legacy(message_id: str | None, approve: bool | None, reason: str | None, at: str) -> Decision:
    """Return the decision of an older client, which names the message that asks, or nothing, but no call.

    Raises:
        InvalidRequestError: It does not say what to do.
    """
    if approve is None:
        raise InvalidRequestError("an approval needs approvals, or approve", param=f"{at}/approvals")
    asked = ONLY_CALL if message_id is None else _id(message_id, f"{at}/approval_request_id")
    return ApprovalPart(asked, approve, _reason(reason, at))


def _decision(one: DecisionIn, at: str) -> Decision:
    call_id = _id(one.tool_call_id, f"{at}/tool_call_id")
    kind = one.type or ("tool" if one.tool_return is not None else "approval")
    if kind == "approval":
        if one.approve is None:
            raise InvalidRequestError("an approval says approve: true or false", param=f"{at}/approve")
        arguments = one.arguments
        if arguments is not None and not one.approve:
            raise InvalidRequestError("arguments go with an approval", param=f"{at}/arguments")
        if arguments is not None and not isinstance(arguments, str):
            arguments = msgspec.json.encode(arguments).decode()
        return ApprovalPart(call_id, one.approve, _reason(one.reason, at), arguments)
    if one.tool_return is None or one.status is None:
        raise InvalidRequestError("a result needs tool_return and status", param=f"{at}/tool_return")
    text, shown = returned(one.tool_return, f"{at}/tool_return")
    return ToolReturnPart(call_id, "", one.status, text, one.stdout or (), one.stderr or (), shown)


def _id(call_id: str, at: str) -> str:
    if not 0 < len(call_id) <= MAX_ID_CHARS:
        raise InvalidRequestError(f"an id has 1 to {MAX_ID_CHARS} characters", param=at)
    return call_id


def _reason(reason: str | None, at: str) -> str | None:
    if reason is not None and len(reason) > MAX_REASON_CHARS:
        raise InvalidRequestError(f"a reason has at most {MAX_REASON_CHARS} characters", param=f"{at}/reason")
    return reason


def returned(
    content: str | tuple[TextPart | ImagePart, ...], at: str
) -> tuple[str, tuple[ImagePart, ...] | UnsetType]:
    """Return (text, images) of a call's result; `at` points at it in its request.

    Raises:
        InvalidRequestError, NotSupportedError: It holds an image that no provider could be sent.
    """
    if isinstance(content, str):
        return content, UNSET
    shown: list[ImagePart] = []
    for place, part in enumerate(content):
        if isinstance(part, ImagePart):
            images.check(part.source, f"{at}/{place}/source")
            shown.append(part)
    text = "\n".join(part.text for part in content if isinstance(part, TextPart))
    return text, tuple(shown) or UNSET


def client_tools(
    tools: Sequence[JsonObject] | None, *, param: str = "/client_tools"
) -> tuple[ClientTool, ...] | None:
    """Return the tools that a client offers to run, `None` where the request does not say.

    `param` points at them in the request.

    Raises:
        InvalidRequestError: One is no tool that a model could be shown, or two share a name.
    """
    if tools is None:
        return None
    if len(tools) > MAX_CLIENT_TOOLS:
        raise InvalidRequestError(f"at most {MAX_CLIENT_TOOLS} tools may be offered", param=param)
    found = tuple(_client_tool(tool, f"{param}/{place}") for place, tool in enumerate(tools))
    if len({tool.name for tool in found}) < len(found):
        raise InvalidRequestError("tools must have different names", param=param)
    return found


def _client_tool(given: JsonObject, at: str) -> ClientTool:
    try:
        tool = msgspec.convert(given, ClientTool)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"no client tool: {error}", param=at) from error
    if _NAME.fullmatch(tool.name) is None:
        raise InvalidRequestError("a tool's name has 1 to 64 letters, digits, _ and -", param=f"{at}/name")
    if len(tool.description or "") > MAX_DESCRIPTION_CHARS:
        raise InvalidRequestError(
            f"a description has at most {MAX_DESCRIPTION_CHARS} characters", param=f"{at}/description"
        )
    if tool.parameters is not None and tool.parameters.get("type", "object") != "object":
        raise InvalidRequestError("parameters are the JSON schema of an object", param=f"{at}/parameters")
    return tool
