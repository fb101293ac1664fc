"""Shows a conversation as the list of messages with which an AI SDK chat begins. Pure.

The messages are those that the streams of the same runs wrote: the same ids, parts and states.
"""

from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from gateway.ai_sdk import files, parts
from gateway.letta import messages as letta_messages
from gateway.letta.speech import DEFAULT_VOICE, heard
from gateway.withdrawn import withdrawn
from storage.pending_records import PendingRequest
from storage.records import (
    ApprovalPart,
    ImagePart,
    JsonObject,
    Message,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    ToolReturnPart,
)


class ShownMessage(Struct, frozen=True, kw_only=True):
    """A message of the list; `parts` are the AI SDK's `UIMessagePart`s."""

    id: str
    role: str
    parts: list[JsonObject]
    metadata: JsonObject


def show(
    messages: Sequence[Message], waiting: PendingRequest | None, *, thoughts: bool = True
) -> list[ShownMessage]:
    """Return stored messages, oldest first, as a client's list; `waiting` is what the conversation asks.

    Everything between two messages of the user is one message, named as the run that began it. Of an answer
    that was given anew the last one is shown.
    """
    shown: list[ShownMessage] = []
    answer: _Answer | None = None
    replaced = withdrawn(messages)
    for message in messages:
        if message.role == "system" or message.id in replaced:
            continue
        if message.role == "user":
            answer = None
            shown.append(_user(message))
            continue
        if answer is None:
            answer = _Answer(waiting, thoughts=thoughts)
            shown.append(
                ShownMessage(
                    id=message.run_id or message.id,
                    role="assistant",
                    parts=answer.parts,
                    metadata={"runId": message.run_id, "conversationId": message.conversation_id},
                )
            )
        answer.add(heard(message, DEFAULT_VOICE))
    return [one for one in shown if one.parts]


def _user(message: Message) -> ShownMessage:
    content: list[JsonObject] = []
    for part in message.content:
        if isinstance(part, TextPart):
            content.append({"type": "text", "text": part.text})
        elif isinstance(part, ImagePart):
            content.append(files.file_of(part.source))
    return ShownMessage(
        id=message.otid or message.id,
        role="user",
        parts=content,
        metadata={"runId": message.run_id, "conversationId": message.conversation_id},
    )


class _Answer:
    """The parts of one answer, while its stored messages are added."""

    def __init__(self, waiting: PendingRequest | None, *, thoughts: bool) -> None:
        self.parts: list[JsonObject] = []
        self._thoughts = thoughts
        self._client = frozenset(() if waiting is None else (t.name for t in waiting.client_tools))
        self._waiting = frozenset(() if waiting is None else (call.id for call in waiting.calls))
        self._step_id: str | None = None
        self._calls: dict[str, JsonObject] = {}

    def add(self, message: Message) -> None:
        """Add a message of the agent, or an answer to its calls."""
        match message.role:
            case "summary":
                self.parts.append(parts.summary_part(message))
            case "assistant" | "approval" if not letta_messages.is_answer(message):
                if message.step_id != self._step_id:
                    self._step_id = message.step_id
                    self.parts.append({"type": "step-start"})
                for part in message.content:
                    self._say(part, asks=message.role == "approval")
            case _:
                for part in message.content:
                    self._settle(part, by_client=message.role == "approval")

    def _say(self, part: Any, *, asks: bool) -> None:
        match part:
            case TextPart(text):
                self.parts.append({"type": "text", "text": text, "state": "done"})
            case ReasoningPart(reasoning):
                if self._thoughts:
                    self.parts.append({"type": "reasoning", "text": reasoning, "state": "done"})
            case ToolCallPart():
                self._call(part, asks=asks)
            case _:
                pass

    def _call(self, call: ToolCallPart, *, asks: bool) -> None:
        client = asks and call.name in self._client
        parsed = parts.input_of(call.arguments)
        shown: JsonObject = {
            **_named(call.name, client=client),
            "toolCallId": call.id,
            "state": "input-available",
            "input": call.arguments if parsed is None else parsed,
        }
        if asks and not client:
            shown["approval"] = {"id": parts.approval_id(call.id)}
            shown["state"] = "approval-requested" if call.id in self._waiting else "approval-responded"
        self._calls[call.id] = shown
        self.parts.append(shown)

    def _settle(self, part: Any, *, by_client: bool) -> None:
        match part:
            case ApprovalPart(call_id, approve, reason) if call_id in self._calls:
                self._decide(self._calls[call_id], approve, reason)
            case ToolReturnPart(call_id, name) if call_id in self._calls:
                shown = self._calls[call_id]
                if by_client:  # only a client's own call is answered with a result
                    for key in ("approval", "toolName", "providerExecuted"):
                        shown.pop(key, None)
                    shown.update(_named(name, client=True))
                _result(shown, part)
            case _:
                pass

    def _decide(self, shown: JsonObject, approve: bool, reason: str | None) -> None:
        decided: JsonObject = {**shown.get("approval", {}), "approved": approve}
        if reason is not None:
            decided["reason"] = reason
        shown["approval"] = decided
        shown["state"] = "approval-responded" if approve else "output-denied"


def _named(name: str, *, client: bool) -> JsonObject:
    """Return what says whose a call is: the client's own tools have types, the agent's are dynamic."""
    if client:
        return {"type": f"tool-{name}"}
    return {"type": "dynamic-tool", "toolName": name, "providerExecuted": True}


def _result(shown: JsonObject, result: ToolReturnPart) -> None:
    if shown["state"] == "output-denied":
        return
    if result.status == "error":
        shown.update(state="output-error", errorText=result.text)
    else:
        client = str(shown["type"]).startswith("tool-")
        output = parts.output_of(result.text, client=client, images=result.shown)
        shown.update(state="output-available", output=output)
