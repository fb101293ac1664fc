"""Names of agents."""

import pytest

from gateway import names
from gateway.errors import InvalidRequestError


@pytest.mark.parametrize("name", ["x", "Zoë O'Neil", "a_b-c 9", "名前", "हिन्दी", "x" * 256])
def test_letters_of_any_script_are_allowed(name: str) -> None:
    assert names.check(name) == name


@pytest.mark.parametrize("name", ["", "   ", "x" * 257, "a/b", "a\nb", "<b>", "a\u202eb", "😀", "a.b"])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        names.check(name)
    assert error.value.param == "/name"


def test_a_random_name_is_two_allowed_words() -> None:
    made = {names.random_name() for _ in range(50)}
    assert len(made) > 10
    for name in made:
        assert names.check(name) == name
        assert sum(c.isupper() for c in name) == 2
