"""Which scenarios come by which failpoint."""

from tests.laws.cancel_scenarios import CancelRun, Late
from tests.laws.edit_scenario import Edits
from tests.laws.hurried_scenario import Hurried
from tests.laws.scenarios import (
    Approve,
    Compact,
    Crash,
    Drain,
    Embed,
    LostAnswer,
    LostWakeups,
    Reject,
    Remember,
    Talk,
    UnheardEnd,
)

Scenario = Talk | Edits


# Which scenarios come by a crossing; `Talk` comes by every other one. Where a step and an edit use the same
# function it is named for both.
_CROSSED: dict[str, tuple[type[Scenario], ...]] = {
    "activation.blocks_of": (Edits,),
    "activation.count_crash": (Crash,),
    "activation.take_back": (Drain,),
    "activation.tools_of": (Edits,),
    "archives.attach": (Edits,),
    "archives.detach": (Edits,),
    "archives.holders": (Embed,),
    "archives.holdings": (Edits,),
    "blocks.create": (Remember,),
    "checkpoints.landed": (LostAnswer,),
    "conversations.get": (Edits,),
    "conversations.get_deleted": (Late,),
    "edits.attach_block": (Edits, Remember),
    "edits.detach_block": (Edits, Remember),
    "extras.write": (Remember, Approve),
    "forks.create": (Edits,),
    "forks.own": (Edits,),
    "forks.part": (Edits,),
    "forks.point_of": (Edits,),
    "inbox.get": (LostWakeups,),
    "inbox.mark_cancelled": (CancelRun,),
    "messages.by_ids": (Edits,),
    "messages.list_newest": (Approve,),
    "messages.whole_run": (UnheardEnd,),
    "model.open": (Hurried,),
    "ownership.release": (Drain,),
    "ownership.renew": (LostWakeups,),
    "passages.delete_of_agent": (Edits,),
    "passages.insert_for_agent": (Edits, Remember),
    "passages.search": (Remember,),
    "pending.clear": (Edits, Approve),
    "pending.expired": (Approve,),
    "pending.put": (Approve,),
    "runs.end_of": (UnheardEnd,),
    "runs.find_by_key": (Reject,),
    "steps.find": (Approve,),
    "unembedded.store": (Embed,),
    "unembedded.texts": (Embed,),
    "words.behind": (LostWakeups,),
}

SCENARIOS: tuple[type[Scenario], ...] = (
    Talk, Edits, Remember, Compact, Approve, LostAnswer, UnheardEnd, LostWakeups, Drain, Crash, Reject,
    Embed, CancelRun, Late, Hurried,
)  # fmt: skip


def scenarios_for(point: str) -> tuple[type[Scenario], ...]:
    """Return the scenarios that come by a point, in whose hosts it is killed at."""
    name = point.partition(":")[0]
    return _CROSSED.get(name) or ((Edits,) if name.startswith("edits.") else (Talk,))
