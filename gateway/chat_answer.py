"""One message and its answer, over as many connections as that takes.

The message carries an otid, so sending it again after a cut sends nothing twice. Once its run is known, the
stream is taken up where it broke; where the server no longer has it, the stored messages tell the rest.
"""

from contextlib import aclosing
from uuid import uuid4

import anyio

from gateway.chat_client import Agent, AwayError, ChatError, Client, RefusedError
from gateway.chat_transcript import Chunk, Transcript
from gateway.chat_view import View

AWAY_SECONDS = 600.0  # how long a server may be away until the answer is given up
RETRY_SECONDS = 0.25
POLL_SECONDS = 0.5
CANCEL_SECONDS = 5.0
FINISHED = ("completed", "failed", "cancelled")

GONE = "The server is away; the answer goes on when it is back. Ctrl-C stops waiting."


class Answer:
    """An exchange with an agent: the message that is sent, and what comes back."""

    def __init__(self, client: Client, agent: Agent, text: str, view: View) -> None:
        self._client = client
        self._agent = agent
        self._text = text
        self._view = view
        self._transcript = Transcript(view)
        self._otid = str(uuid4())
        self._run_id: str | None = None
        self._stored_only = False
        self._give_up_at: float | None = None
        self._cancelled = False

    async def show(self) -> bool:
        """Show the answer to its end; return whether there was one. What went wrong is shown as well."""
        try:
            while True:
                try:
                    return await (self._from_history() if self._stored_only else self._from_stream())
                except AwayError as error:
                    await self._wait_for(error)
                except RefusedError:
                    if self._run_id is None or self._stored_only:
                        raise
                    self._stored_only = True
        except ChatError as error:
            self._transcript.interrupted()
            self._view.notice(f"No answer: {error}")
            return False

    async def cancel(self) -> bool:
        """Ask the server, once, to end the answer; return whether it will."""
        if self._run_id is None or self._cancelled:
            return False
        self._cancelled = True
        try:
            with anyio.fail_after(CANCEL_SECONDS):
                await self._client.cancel(self._agent.id, self._run_id)
        except (ChatError, TimeoutError):
            return False
        return True

    async def _from_stream(self) -> bool:
        failure = stop_reason = ""
        if self._run_id is None:
            stream = self._client.send(self._agent.id, self._text, otid=self._otid)
        else:
            stream = self._client.resume(self._run_id, after=self._transcript.after)
        async with aclosing(stream) as chunks:
            async for chunk in chunks:
                self._give_up_at = None
                self._run_id = chunk.run_id or self._run_id
                self._transcript.feed(chunk)
                if chunk.message_type == "stop_reason":
                    self._transcript.finish()
                    stop_reason = chunk.stop_reason
                elif chunk.message_type == "error_message":
                    failure = _failure(chunk)
        return self._ended(stop_reason, failure)

    async def _from_history(self) -> bool:
        assert self._run_id is not None
        while (run := await self._client.run(self._run_id)).status not in FINISHED:  # noqa: ASYNC110 - it is remote
            await anyio.sleep(POLL_SECONDS)
        self._transcript.retold()
        for message in await self._client.messages(self._run_id):
            self._transcript.feed(message)
        self._transcript.finish()
        failure = "the run failed" if run.status == "failed" else ""
        return self._ended(run.stop_reason or run.status, failure)

    def _ended(self, stop_reason: str, failure: str) -> bool:
        if failure:
            self._view.notice(f"No answer: {failure}")
        elif stop_reason == "cancelled":
            self._view.notice("Stopped.")
        elif stop_reason != "end_turn":
            self._view.notice(f"The agent stopped early: {stop_reason}")
        return not failure

    async def _wait_for(self, error: AwayError) -> None:
        """Wait a moment for the server to come back; say so once each time it goes.

        Raises:
            AwayError: It has been away for too long.
        """
        self._transcript.interrupted()
        now = anyio.current_time()
        if self._give_up_at is None:
            self._give_up_at = now + AWAY_SECONDS
            self._view.notice(GONE if error.retry_after is None else f"Not now: {error}. Trying again.")
        if now >= self._give_up_at:
            raise ChatError(f"{error}; it was tried for {AWAY_SECONDS:.0f} s") from error
        await anyio.sleep(max(RETRY_SECONDS, error.retry_after or 0.0))


def _failure(chunk: Chunk) -> str:
    """Return what a run failed with.

    Raises:
        AwayError: Only its stream did; the run goes on.
    """
    if chunk.error_type == "stream_incomplete":
        raise AwayError(chunk.message)
    return chunk.message
