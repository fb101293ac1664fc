"""Agent files: agents written out, to be kept or taken to another server, and read in again."""

from collections.abc import Sequence
from datetime import timedelta

import msgspec
from msgspec import Struct
from msgspec.structs import replace
from starlette.responses import Response

from actors import clock
from actors.tokens import estimate
from gateway import absent, multipart
from gateway.agent_files import reader as agent_file_reader
from gateway.agent_files import whole as agent_file_whole
from gateway.agent_files import writer as agent_file
from gateway.agent_files.reader import FILE_BYTES, Overrides, Read, Said
from gateway.agent_files.whole import Whole
from gateway.agent_files.writer import AgentFile
from gateway.app import Context, Route, json
from gateway.errors import BadArgumentError, InvalidRequestError
from gateway.requests import new_agents
from gateway.requests.passages import new_passage
from gateway.rest import agents as agent_routes
from storage import activation, agents, conversations, imports, migrate, passages, tools
from storage.agents import NewAgent
from storage.archive_records import Passage
from storage.errors import NotFoundError
from storage.keyset import Page
from storage.pool import Conn, connection, transaction
from storage.records import Agent, Message
from storage.tools import ToolFilter

DEADLINE_SECONDS = 60.0
TOOL_PAGE = 500


class ExportQuery(Struct, frozen=True, kw_only=True):
    """What to export: the default conversation's messages, another one's, or none (`scrub_messages`)."""

    conversation_id: str | None = None
    scrub_messages: bool = False
    use_legacy_format: bool = False
    max_steps: int | None = None


async def export(ctx: Context) -> Response:
    """Write an agent as an agent file: its settings, blocks, tools and the messages that its model sees."""
    query = ctx.query(ExportQuery)
    if query.use_legacy_format:
        raise BadArgumentError("the legacy format is no longer written", param="/use_legacy_format")
    agent_id = await agent_routes.own(ctx)
    state = await agent_routes.state(ctx, agent_id)
    wanted = query.conversation_id if query.conversation_id not in (None, "default") else agent_id
    async with connection(ctx.host.pool) as conn:
        found = await conversations.get(conn, wanted or "", organization_id=ctx.caller.organization_id)
        if found.agent_id != agent_id:
            raise NotFoundError("conversation", found.id)
        messages = [] if query.scrub_messages else await activation.window(conn, found)
    file = agent_file.write(state, messages, at=clock.now(), revision=migrate.load()[-1].name)
    return Response(msgspec.json.format(msgspec.json.encode(file), indent=2), media_type="application/json")


class ImportForm(Struct, frozen=True, kw_only=True):
    """The fields of the form. `file` is the agent file; the older names of overrides mean the same."""

    file: str
    name: str | None = None
    override_name: str | None = None
    model: str | None = None
    override_model_handle: str | None = None
    embedding: str | None = None
    override_embedding_handle: str | None = None
    append_copy_suffix: bool = True
    strip_messages: bool = False
    override_existing_tools: bool = True
    project_id: str | None = None
    secrets: str | None = None
    env_vars_json: str | None = None


class Imported(Struct, frozen=True):
    """The agents that were made, and what their files hold that this server has not, in words."""

    agent_ids: tuple[str, ...]
    left_out: tuple[str, ...]


async def import_(ctx: Context) -> Response:
    """Create the agents of an agent file, all or none. Tools are matched by name.

    Of a full export's one agent the passages and what was said before the window are taken over as well.
    """
    form = multipart.form(await ctx.read(), ctx.headers.get(b"content-type", b""))
    data = form.pop("file", None)
    if data is None:
        raise InvalidRequestError("the form has no file", param="/file")
    overrides = _overrides(form, ctx.headers.get(b"x-override-embedding-model"))
    known = await _tool_names(ctx)
    wanted = agent_file_reader.read(data, known_tools=known, overrides=overrides, now=clock.now())
    whole = _whole(data, wanted, strip=overrides.strip_messages)
    built = [await _built(ctx, one, whole.history) for one in wanted]
    kept = _passages(ctx, whole)
    async with connection(ctx.host.pool) as conn, transaction(conn):
        for new in built:
            await agents.create(conn, new)
            await _begin_window(conn, new, len(whole.history))
            if kept:
                await passages.insert_for_agent(conn, new.agent.id, kept)
    made = tuple(new.agent.id for new in built)
    if kept:
        await ctx.host.passages_written(made)
    left = dict.fromkeys(what for one in wanted for what in one.left_out)
    return json(Imported(made, (*left, *whole.left_out)))


def _whole(data: bytes, wanted: Sequence[Read], *, strip: bool) -> Whole:
    """Return what a full export holds of its one agent beside what other files have, too."""
    if len(wanted) != 1 or not agent_file_whole.is_full(data):
        return Whole()
    room = agent_file_reader.MAX_MESSAGES - len(wanted[0].messages)
    whole = agent_file_whole.read(data, room=room, now=clock.now())
    return replace(whole, history=()) if strip else whole


def _passages(ctx: Context, whole: Whole) -> list[Passage]:
    """Return the passages of a file; their vectors are made once they are stored."""
    at = clock.now()
    return [
        new_passage(
            one,
            archive_id="",
            caller=ctx.caller,
            at=at + timedelta(microseconds=place),  # lists are in the order of the file
            param=f"/file/archival/{place}",
        )
        for place, one in enumerate(whole.archival)
    ]


async def _begin_window(conn: Conn, new: NewAgent, before: int) -> None:
    """Let the window begin behind its summary, or behind the `before` messages that are history."""
    window = new.history[before:]
    summary = next((m for m in reversed(window) if m.role == "summary"), None)
    if summary is not None:
        await imports.put_in_force(conn, new.agent.id, summary.position)
    elif before:
        await imports.begin_window(conn, new.agent.id, before + 1)


def _overrides(form: dict[str, bytes], embedding: bytes | None) -> Overrides:
    """Read the form's other fields; a secret or an unknown field is refused or ignored as elsewhere."""
    text = {name: value.decode(errors="replace") for name, value in form.items() if value}
    if text.get("secrets", "{}") != "{}" or text.get("env_vars_json", "{}") != "{}":
        raise absent.field("secrets")
    try:
        given = msgspec.convert({"file": "", **text}, ImportForm, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(str(error)) from None
    header = embedding.decode("latin-1") if embedding else None
    return Overrides(
        name=given.name or given.override_name,
        model=given.model or given.override_model_handle,
        embedding=given.embedding or given.override_embedding_handle or header,
        append_copy_suffix=given.append_copy_suffix,
        strip_messages=given.strip_messages,
    )


async def _tool_names(ctx: Context) -> frozenset[str]:
    """Return the names of the organisation's tools."""
    where = ToolFilter(organization_id=ctx.caller.organization_id)
    names: set[str] = set()
    after: str | None = None
    async with connection(ctx.host.pool) as conn:
        while page := await tools.list_page(conn, Page(limit=TOOL_PAGE, after=after), where=where):
            names.update(tool.name for tool in page)
            after = page[-1].id
    return frozenset(names)


async def _built(ctx: Context, one: Read, history: Sequence[Said]) -> NewAgent:
    """Return an agent with the messages of its file, which stand for those that a new one begins with."""
    new, _ = await new_agents.build(ctx, one.request)
    said = (*history, *one.messages)
    return replace(new, history=tuple(_messages(new.agent, said))) if said else new


def _messages(agent: Agent, said: Sequence[Said]) -> list[Message]:
    return [
        Message(
            id=clock.new_id("message"),
            organization_id=agent.organization_id,
            agent_id=agent.id,
            conversation_id=agent.id,
            position=position,
            role=one.role,
            content=one.content,
            created_at=one.created_at,
            name=one.name,
            tokens=estimate(msgspec.json.encode(one.content).decode()),
        )
        for position, one in enumerate(said, start=1)
    ]


ROUTES: tuple[Route, ...] = (
    Route(
        method="POST",
        path="/v1/agents/import",
        endpoint=import_,
        operation_id="import_agent",
        summary="Create the agents of an agent file",
        body=ImportForm,
        body_media="multipart/form-data",
        returns=Imported,
        tags=("agents",),
        body_bytes=FILE_BYTES,
        deadline_seconds=DEADLINE_SECONDS,
    ),
    Route(
        method="GET",
        path="/v1/agents/{agent_id}/export",
        endpoint=export,
        operation_id="export_agent",
        summary="Write an agent as an agent file",
        query=ExportQuery,
        returns=AgentFile,
        tags=("agents",),
        deadline_seconds=DEADLINE_SECONDS,
    ),
)
