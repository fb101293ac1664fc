"""Makes one call ready: where it goes, its bytes, and what reads its answer. Pure."""

from msgspec import Struct
from msgspec.structs import replace

from actors.llm import openai_chat, openai_responses, text_calls
from actors.llm.formats import wanted
from actors.llm.habits import Habits
from actors.llm.known import quirks_of
from actors.llm.model import ModelRef, Request
from actors.llm.openai_stream import ChatDecoder
from actors.llm.providers import Provider
from actors.llm.responses_stream import ResponsesDecoder
from actors.llm.stray_calls import StrayReader
from actors.llm.text_calls import Offer
from actors.llm.text_calls_decoder import Decoder, TextCallDecoder
from actors.llm.text_calls_stream import OfferedReader


class Call(Struct, frozen=True, kw_only=True):
    """A call about to be sent. `watched` is the decoder where it looks for calls in text.

    `longer` is the request to make if the answer ends too early within a call.
    """

    path: str
    payload: bytes
    decoder: Decoder
    watched: TextCallDecoder | None = None
    longer: Request | None = None

    @property
    def fell_short(self) -> bool:
        """Whether the answer ended too early and there is a longer request to make."""
        return self.watched is not None and self.watched.cut and self.longer is not None


def prepare(
    ref: ModelRef, request: Request, known: Habits, provider: Provider, *, again: bool = False
) -> Call:
    """Return the call for a request; `again` says that it is the longer one already."""
    dialect = request.dialect
    if dialect.api == "responses":
        return Call(
            path="/responses",
            payload=openai_responses.body(ref, request, without=known.without),
            decoder=ResponsesDecoder(provider.name, secrets=provider.secrets),
        )
    decoder = ChatDecoder(provider.name, secrets=provider.secrets, thoughts=dialect.thoughts)
    if dialect.calls == "text":
        return _told(ref, request, known, decoder, again=again)
    watched = None
    if request.tools and not quirks_of(ref.provider_type).checks_calls:
        offered = text_calls.offer(request.tools, "required", None)
        watched = TextCallDecoder(decoder, StrayReader(offered.tools))
    return Call(
        path="/chat/completions",
        payload=openai_chat.body(ref, request, without=known.without),
        decoder=watched or decoder,
        watched=watched,
    )


def _told(ref: ModelRef, request: Request, known: Habits, decoder: ChatDecoder, *, again: bool) -> Call:
    """Return the call to a model that answers in JSON because it has no tools."""
    settings = request.settings
    offered: Offer = text_calls.offer(request.tools, request.tool_choice, wanted(settings))
    bound = settings.max_output_tokens or ref.max_output_tokens or text_calls.ANSWER_TOKENS
    form = text_calls.response_format(offered) if known.tools != "prompt" else None
    settings = replace(settings, max_output_tokens=bound, response_format=form)
    told = replace(
        request,
        messages=[text_calls.explained(request.messages[0], offered), *request.messages[1:]],
        tools=None,
        settings=settings,
    )
    twice = replace(request, settings=replace(request.settings, max_output_tokens=2 * bound))
    watched = TextCallDecoder(decoder, OfferedReader(offered))
    return Call(
        path="/chat/completions",
        payload=openai_chat.body(ref, told, without=known.without),
        decoder=watched,
        watched=watched,
        longer=None if again else twice,
    )
