"""Names of agents: which are allowed, and two words for an agent that came without one."""

import random
import unicodedata

from gateway.errors import InvalidRequestError

MAX_NAME_CHARS = 256

_FIRST = (
    "Amber", "Bold", "Bright", "Calm", "Clever", "Crisp", "Curious", "Daring", "Eager", "Fleet",
    "Gentle", "Golden", "Hardy", "Honest", "Humble", "Jolly", "Keen", "Kind", "Lively", "Lucid",
    "Mellow", "Merry", "Mighty", "Nimble", "Noble", "Patient", "Placid", "Plucky", "Proud", "Quick",
    "Quiet", "Rustic", "Sage", "Silver", "Steady", "Sunny", "Swift", "Tidy", "Vivid", "Witty",
)  # fmt: skip
_SECOND = (
    "Acorn", "Badger", "Beacon", "Birch", "Brook", "Cedar", "Comet", "Crane", "Dolphin", "Ember",
    "Falcon", "Fern", "Finch", "Fjord", "Glacier", "Harbor", "Heron", "Island", "Juniper", "Kestrel",
    "Lantern", "Lark", "Lynx", "Maple", "Meadow", "Meteor", "Otter", "Owl", "Pebble", "Pine",
    "Plover", "Quartz", "Raven", "Reef", "River", "Sparrow", "Summit", "Thistle", "Willow", "Wren",
)  # fmt: skip


def random_name() -> str:
    """Return two words, for people to tell agents apart; not unique."""
    return random.choice(_FIRST) + random.choice(_SECOND)


def check(name: str) -> str:
    """Return a name that has letters or digits of any script, spaces, `-`, `_` and `'`.

    Raises:
        InvalidRequestError: It is empty, too long, or has other characters.
    """
    if not name.strip():
        raise InvalidRequestError("the name must not be empty", param="/name")
    if len(name) > MAX_NAME_CHARS:
        raise InvalidRequestError(
            f"the name has {len(name)} characters; at most {MAX_NAME_CHARS} are allowed", param="/name"
        )
    for character in name:
        if character not in " -_'" and unicodedata.category(character)[0] not in "LMN":
            raise InvalidRequestError(
                f"the name contains {character!r}; use letters, digits, spaces, '-', '_' and \"'\"",
                param="/name",
            )
    return name
