"""Labels of memory blocks: which are allowed, and what a path such as `/memories/notes` means. Pure."""

import re
from collections.abc import Container

from actors.memory import MemoryEditError, quoted

MAX_LABEL_CHARS = 100
LABEL = re.compile(rf"[A-Za-z0-9_./-]{{1,{MAX_LABEL_CHARS}}}")
LABEL_RULE = f"1 to {MAX_LABEL_CHARS} letters, digits, '_', '-', '/' or '.'"

_ROOT = "memories/"


def is_label(text: str) -> bool:
    """Say whether `text` may be a block's label: safe as a key, an XML tag and a file name."""
    return LABEL.fullmatch(text) is not None and not any(part in ("", ".", "..") for part in text.split("/"))


def checked(label: str) -> str:
    """Return `label` when a new block may have it.

    Raises:
        MemoryEditError: It has other characters, or is empty or too long.
    """
    if not is_label(label):
        raise MemoryEditError(f"{quoted(label)} cannot be a label: a label is {LABEL_RULE}")
    return label


def label_of(path: str) -> str:
    """Return the label that `path` gives to a new block: without `/memories/`, its slashes as `_`.

    Raises:
        MemoryEditError: The path names no block, or has characters that a label cannot have.
    """
    label = _inside(path).replace("/", "_")
    if not label:
        raise MemoryEditError(f"the path {quoted(path)} names no block; send one such as /memories/notes")
    return checked(label)


def find(path: str, labels: Container[str]) -> str | None:
    """Return the label among `labels` that `path` means, or None.

    A block whose label has slashes of its own is found by them before they are read as `_`.
    """
    inside = _inside(path)
    for label in (inside, inside.replace("/", "_"), path):
        if label in labels:
            return label
    return None


def _inside(path: str) -> str:
    """Return a path below the memory's root, without slashes around it."""
    return path.strip().lstrip("/").removeprefix(_ROOT).strip("/") if path.strip("/ ") != "memories" else ""
