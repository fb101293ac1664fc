import pytest

from actors.llm.loose import object_of, objects


def test_an_object_and_the_objects_of_a_list_are_themselves() -> None:
    assert object_of({"a": 1}) == {"a": 1}
    assert objects([{"a": 1}, 2, None, {}, [{}]]) == [{"a": 1}, {}]


@pytest.mark.parametrize("value", [None, True, 1, "text", [1], [[]]])
def test_what_is_neither_holds_nothing(value: object) -> None:
    assert object_of(value) == {}
    assert objects(value) == []
