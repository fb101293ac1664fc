"""The calls of one AI SDK stream: what was shown of each, and the chunk that comes next. Pure."""

from collections.abc import Collection, Sequence

import msgspec
from msgspec import Struct

from gateway.ai_sdk import parts
from storage.records import ApprovalPart, ImagePart, ToolReturnPart, ToolStatus

_encode = msgspec.json.Encoder().encode


class _Call(Struct):
    """A call as far as the stream has shown it."""

    name: str
    client: bool
    arguments: str = ""
    available: bool = False
    asked: bool = False
    decided: bool = False


class Calls:
    """Every call of a stream. Methods append the chunks that they cause to `out`.

    `client_tools` are run by the client, `known` calls are shown by its message already, and `settled` are
    those of them of which it shows the end.
    """

    def __init__(
        self, client_tools: Collection[str], *, known: Collection[str], settled: Collection[str]
    ) -> None:
        self._client_tools = client_tools
        self._known = known
        self._settled = settled
        self._calls: dict[str, _Call] = {}
        self._of_step: set[str] = set()
        self._returned: set[str] = set()
        self._unsure: set[str] = set()  # returned, but not committed yet
        self._denied: set[str] = set()

    def __contains__(self, call_id: str) -> bool:
        return call_id in self._calls

    def step_ended(self) -> None:
        """Keep the calls of the step: it is not taken back any more."""
        self._of_step.clear()

    def restart(self) -> None:
        """Let results that were not committed be shown anew: another attempt may have others."""
        self._returned -= self._unsure
        self._unsure.clear()

    def reset(self) -> None:
        """Forget the calls of the step."""
        for call_id in self._of_step:
            self._calls.pop(call_id, None)
            self._returned.discard(call_id)
        self._of_step.clear()

    def begin(self, call_id: str, name: str, out: list[bytes]) -> None:
        """Show that the model asks for a tool."""
        flags = parts.tool_flags(client=self._new(call_id, name).client)
        out.append(parts.chunk("tool-input-start", toolCallId=call_id, toolName=name, **flags))

    def _new(self, call_id: str, name: str, arguments: str = "") -> _Call:
        self._returned.discard(call_id)  # weak models use an id again in their next step
        self._denied.discard(call_id)
        self._of_step.add(call_id)
        call = self._calls[call_id] = _Call(name, name in self._client_tools, arguments)
        return call

    def write(self, call_id: str, text: str, out: list[bytes]) -> None:
        """Show a fragment of a call's arguments."""
        call = self._calls.get(call_id)
        if call is not None and text:
            call.arguments += text
            head = parts.delta_head("tool-input-delta", "toolCallId", call_id, "inputTextDelta")
            out.append(head + _encode(text) + parts.END)

    def end(self, call_id: str, out: list[bytes]) -> None:
        """Show a call whose arguments are complete. The client runs its own only once they are durable."""
        call = self._calls.get(call_id)
        if call is not None and not call.client:
            self._available(call_id, call, out)

    def show(self, call_id: str, name: str, arguments: str, out: list[bytes]) -> None:
        """Show a whole call of which nothing was seen."""
        self._available(call_id, self._new(call_id, name, arguments), out)

    def _available(self, call_id: str, call: _Call, out: list[bytes]) -> None:
        if not call.available:
            call.available = True
            out.append(parts.tool_input(call_id, call.name, call.arguments, client=call.client))

    def ask(self, call_id: str, name: str, arguments: str, *, client: bool, out: list[bytes]) -> None:
        """Show a call that waits: for the `client` to run it, or for an approval."""
        call = self._calls.get(call_id) or self._new(call_id, name, arguments)
        call.client = client
        self._available(call_id, call, out)
        if not call.asked and not client:
            request = {"approvalId": parts.approval_id(call_id), "toolCallId": call_id}
            out.append(parts.chunk("tool-approval-request", **request))
        call.asked = True

    def decide(self, decision: ApprovalPart, out: list[bytes]) -> None:
        """Show an answer, unless the client gave it: then its message shows it already."""
        if not decision.approve:
            self._denied.add(decision.tool_call_id)
        call = self._calls.get(decision.tool_call_id)
        if call is not None:
            self._decide(decision.tool_call_id, call, decision.approve, decision.reason, out)

    def _decide(
        self, call_id: str, call: _Call, approved: bool, reason: str | None, out: list[bytes]
    ) -> None:
        if call.asked and not call.client and not call.decided:
            call.decided = True
            response = {"approvalId": parts.approval_id(call_id), "approved": approved, "reason": reason}
            out.append(parts.chunk("tool-approval-response", **response))

    def committed(self, result: ToolReturnPart, out: list[bytes]) -> None:
        """Show the result of a call as it stands in the history."""
        self.returned(result.tool_call_id, result.status, result.text, out, images=result.shown)
        self._unsure.discard(result.tool_call_id)

    def returned(
        self,
        call_id: str,
        status: ToolStatus,
        text: str,
        out: list[bytes],
        *,
        images: Sequence[ImagePart] = (),
    ) -> None:
        """Show what came of a call; nothing of one that the client's message does not show."""
        call = self._calls.get(call_id)
        shown = (call is not None and call.available) or call_id in self._known
        if not shown or call_id in self._returned:
            return
        self._returned.add(call_id)
        self._unsure.add(call_id)
        if call_id in self._settled:
            return
        if call_id in self._denied:
            out.append(parts.chunk("tool-output-denied", toolCallId=call_id))
            return
        if call is not None:  # what ran before its answer is told was approved
            self._decide(call_id, call, True, None, out)
        if status == "error":
            out.append(parts.chunk("tool-output-error", toolCallId=call_id, errorText=text))
        else:
            client = call is not None and call.client
            out.append(parts.tool_output(call_id, text, client=client, images=images))
