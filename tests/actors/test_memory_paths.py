import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import memory_paths
from actors.memory import MemoryEditError


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("/memories/notes", "notes"),
        ("/memories/notes/", "notes"),
        ("/memories/projects/alpha", "projects_alpha"),
        ("memories/notes", "notes"),
        ("/notes", "notes"),
        ("notes", "notes"),
        (" /memories/notes.md ", "notes.md"),
        ("/memories/memories", "memories"),
    ],
)
def test_a_path_is_a_label_without_its_root_and_slashes(path: str, label: str) -> None:
    assert memory_paths.label_of(path) == label
    assert memory_paths.find(path, {label}) == label


@pytest.mark.parametrize("path", ["", "/", "/memories", "/memories/", "  ", "memories"])
def test_the_root_names_no_block(path: str) -> None:
    with pytest.raises(MemoryEditError, match="names no block"):
        memory_paths.label_of(path)
    assert memory_paths.find(path, {"notes"}) is None


@pytest.mark.parametrize("path", ["/memories/a b", "/memories/<x>", "/memories/é", "/memories/" + "x" * 101])
def test_a_path_that_is_no_label_is_refused_with_the_rule(path: str) -> None:
    with pytest.raises(MemoryEditError, match="1 to 100 letters"):
        memory_paths.label_of(path)


def test_a_label_with_slashes_of_its_own_is_found_first() -> None:
    assert memory_paths.find("/memories/system/human", {"system/human", "system_human"}) == "system/human"
    assert memory_paths.find("/memories/system/human", {"system_human"}) == "system_human"
    assert memory_paths.find("/memories/system/human", {"human"}) is None


@pytest.mark.parametrize("label", ["a//b", "/a", "a/", ".", "..", "a/../b", "", "a\nb"])
def test_a_label_is_safe_as_a_file_name(label: str) -> None:
    assert not memory_paths.is_label(label)
    with pytest.raises(MemoryEditError):
        memory_paths.checked(label)


@given(st.text())
def test_what_a_path_gives_is_always_a_label(path: str) -> None:
    try:
        label = memory_paths.label_of(path)
    except MemoryEditError:
        return
    assert memory_paths.is_label(label)
    assert "/" not in label
    assert memory_paths.find(path, {label}) == label
