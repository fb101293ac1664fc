"""Methods of memory: change a block."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from actors.commands import UpdateBlock as UpdateEdit
from actors.errors import InvalidEditError
from gateway.auth import THOUGHTS, WRITE
from gateway.decode import Count, label
from gateway.errors import InvalidRequestError, WrongStateError
from gateway.requests import blocks as block_requests
from gateway.requests.blocks import LimitChars, UpdateBlock
from gateway.rpc.method import AppliedThrough, Call, Method, agent_id, applied_through, encode
from storage import agents, blocks
from storage.pool import connection
from storage.records import Block

VALUE_CHARS = 20_000  # of a block's value in a refusal


class UpdateData(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A block of an agent, by its label, with its new value, limit or description.

    With `ifVersion` nothing is written unless the block still has that version; without, the last one wins.
    """

    agent: str
    label: str
    value: str | None = None
    limit: LimitChars | None = None
    description: str | None = None
    if_version: Count | None = None


class Updated(Struct, frozen=True, kw_only=True, rename="camel"):
    """The block as it is stored now. A run that is under way sees it at its next step.

    Who may not see memory is told no `value` but the one it wrote.
    """

    accepted: Literal[True]
    block_id: str
    label: str
    value: str | UnsetType = UNSET
    limit: int
    version: int
    applied_through: AppliedThrough | UnsetType = UNSET


async def update(call: Call, data: UpdateData) -> Updated:
    """Change a memory block between two steps of its agent."""
    wanted = agent_id(call, data.agent)
    label(data.label, param="/label")
    if data.value is None and data.limit is None and data.description is None:
        raise InvalidRequestError("give a value, a limit or a description", param="/value")
    request = UpdateBlock(value=data.value, limit=data.limit, description=data.description)
    edit = UpdateEdit(
        label=data.label,
        changes=block_requests.changes(request, caller=call.caller),
        if_version=data.if_version,
    )
    async with connection(call.host.pool) as conn:
        await agents.check(conn, wanted, organization_id=call.caller.organization_id)
    try:
        await call.host.ref(wanted).edit(edit)
    except InvalidEditError as error:
        if error.field != "if_version":
            raise
        raise _changed(await _block(call, wanted, data.label), told=THOUGHTS in call.caller.scopes) from None
    block = await _block(call, wanted, data.label)
    return Updated(
        accepted=True,
        block_id=block.id,
        label=block.label,
        value=block.value if THOUGHTS in call.caller.scopes else _own(data),
        limit=block.limit_chars,
        version=block.version,
        applied_through=applied_through(call, wanted),
    )


def _own(data: UpdateData) -> str | UnsetType:
    return UNSET if data.value is None else data.value


def _changed(block: Block, *, told: bool) -> WrongStateError:
    """Return the refusal of a stale write, with what its sender has to look at before the next one.

    `told` says that its sender may see it.
    """
    if not told:
        return WrongStateError(f"ifVersion: block {block.label!r} has version {block.version}")
    value = encode(block.value[:VALUE_CHARS]).decode()
    rest = "" if len(block.value) <= VALUE_CHARS else f" and {len(block.value) - VALUE_CHARS} characters more"
    return WrongStateError(
        f"ifVersion: block {block.label!r} has version {block.version} and the value {value}{rest}"
    )


async def _block(call: Call, wanted: str, name: str) -> Block:
    async with connection(call.host.pool) as conn:
        return await blocks.get_by_label(conn, wanted, name, organization_id=call.caller.organization_id)


METHODS: tuple[Method, ...] = (
    Method(
        name="memory.update",
        data=UpdateData,
        answer=Updated,
        scope=WRITE,
        run=update,
        summary="Change a memory block",
        errors=(
            "404: no such agent or block",
            "409: the block has another version than `ifVersion`; the text holds its version and value",
        ),
    ),
)
