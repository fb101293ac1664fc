"""Errors of the actors package: each names one condition and what its caller should do."""

from storage.records import RunError, StopReason


class ActorError(Exception):
    """Base of everything that actors raise on purpose."""


class BusyError(ActorError):
    """The conversation is running something and the command asked to be rejected then (409)."""

    def __init__(self, conversation_id: str, run_id: str) -> None:
        super().__init__(f"conversation {conversation_id!r} is busy with run {run_id!r}")
        self.conversation_id = conversation_id
        self.run_id = run_id


class PendingApprovalError(ActorError):
    """The conversation waits for an answer to `message_id`, and nothing else is accepted meanwhile (409)."""

    def __init__(self, conversation_id: str, message_id: str) -> None:
        super().__init__(f"conversation {conversation_id!r} waits for an answer to {message_id!r}")
        self.conversation_id = conversation_id
        self.message_id = message_id


class InvalidAnswerError(ActorError):
    """An answer does not fit what the conversation waits for; nothing was accepted (400)."""


class MailboxFullError(ActorError):
    """Too many commands wait; nothing was accepted. Retry after `retry_after` seconds (429)."""

    def __init__(self, scope: str, bound: int, retry_after: float) -> None:
        super().__init__(f"{bound} commands already wait for this {scope}")
        self.scope = scope
        self.bound = bound
        self.retry_after = retry_after


class DrainingError(ActorError):
    """The host is stopping or has lost its lease; nothing was accepted (503)."""

    def __init__(self, reason: str = "the server is shutting down") -> None:
        super().__init__(reason)


class BrokenAgentError(ActorError):
    """An agent's rows cannot be read by this release; the log says why, and nothing was changed (500)."""

    def __init__(self, agent_id: str) -> None:
        super().__init__(f"agent {agent_id!r} cannot be read")
        self.agent_id = agent_id


class InvalidEditError(ActorError):
    """An edit cannot be applied to the agent as it is; `field` names what to change (409 or 422)."""

    def __init__(self, message: str, *, field: str, conflict: bool = False) -> None:
        super().__init__(message)
        self.field = field
        self.conflict = conflict


class LogTrimmedError(ActorError):
    """The run is over and its events are no longer in memory; read its stored messages instead."""

    def __init__(self, run_id: str) -> None:
        super().__init__(f"the events of run {run_id!r} are no longer in memory")
        self.run_id = run_id


class NothingToCancelError(ActorError):
    """No active run matches the request (409)."""


class NotRunningError(ActorError):
    """The run can be neither steered nor cancelled: it is over, or it waits its turn (409)."""

    def __init__(self, run_id: str, *, over: bool) -> None:
        why = "already finished" if over else "waits its turn: it can be steered once it runs"
        super().__init__(f"run {run_id!r} {why}")
        self.run_id = run_id
        self.over = over


class ModelError(ActorError):
    """A model call failed. `retryable` calls are repeated while nothing of the attempt was shown.

    `kind` is Letta's error type for clients; `stop_reason` ends the run; `refused_content` marks a
    provider's refusal of this very input (400, content filter), which excludes the input messages.
    `requests` counts how often the provider was asked: all of them count towards the bound on retries.
    `lacks` names what the model cannot do (`tools`, `images`, `response_format`, `responses`,
    `summaries`); `learned` says that the next call will do without, so that it may be made at once.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "llm_error",
        stop_reason: StopReason = "llm_api_error",
        retryable: bool = False,
        retry_after: float | None = None,
        refused_content: bool = False,
        overflow: bool = False,
        status: int | None = None,
        lacks: str = "",
    ) -> None:
        super().__init__(message)
        self.lacks = lacks
        self.learned = False
        self.kind = kind
        self.stop_reason: StopReason = stop_reason
        self.retryable = retryable
        self.retry_after = retry_after
        self.refused_content = refused_content
        self.overflow = overflow
        self.status = status
        self.requests = 1

    def as_run_error(self) -> RunError:
        """Return what clients are told."""
        return RunError(self.kind, str(self), status=self.status)


class NotShorterError(ActorError):
    """A compaction would leave the window no shorter than it is; nothing was changed (400)."""

    def __init__(self) -> None:
        super().__init__(
            "Summarization failed to reduce the number of messages: there are too few of them. "
            "Send more messages first, or use another mode, for example all."
        )


class UnknownModelError(ActorError):
    """No provider serves this handle; `known` lists the handles that exist (404)."""

    def __init__(self, handle: str, known: tuple[str, ...]) -> None:
        listed = ", ".join(known) if known else "none"
        super().__init__(f"model {handle!r} is not known; known models: {listed}")
        self.handle = handle
        self.known = known


class EmbeddingError(ActorError):
    """Texts could not be embedded. Search goes on with full text; what was to be stored is stored without.

    `retryable` failures may cure themselves; `refused` ones come of the texts or of the handle, and the
    same request fails again. `status` is the provider's, where one answered.
    """

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        refused: bool = False,
        retry_after: float | None = None,
        status: int | None = None,
    ) -> None:
        super().__init__(message)
        self.retryable = retryable
        self.refused = refused
        self.retry_after = retry_after
        self.status = status
