"""The page of the websocket's methods says all that their Structs say."""

from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from gateway.auth import READ
from gateway.rpc import docs as rpc_docs
from gateway.rpc.method import Method
from gateway.rpc.methods import METHODS


def test_every_method_field_and_error_is_on_the_page() -> None:
    page = rpc_docs.page(METHODS)
    for method in METHODS:
        assert f"\n## {method.name}\n" in page
        assert method.summary in page
        assert f"`{method.scope}`" in page
        for field in method.data.__struct_encode_fields__:
            assert f"| `{field}` |" in page
        assert all(error in page for error in method.errors)


def test_shapes_are_told_once_by_their_own_names() -> None:
    page = rpc_docs.page(METHODS)
    for name in ("Accepted", "AppliedThrough", "AgentRow", "MessageData", "Resume", "Payload"):
        assert page.count(f"\n## {name}\n") == 1
    assert "| `payload` | `Payload` |" in page
    assert "| `editedArgs` | JSON |" in page


class Asked(Struct, frozen=True, rename="camel"):
    """What is asked."""

    some_number: int
    choice: Literal["a", "b"] = "a"
    words: tuple[str, ...] = ()
    perhaps: float | None = None
    left_out: bool | UnsetType = UNSET


def test_a_table_says_name_type_and_default() -> None:
    async def nothing(call: object, data: object) -> None:
        return None

    method = Method(
        name="x.y", data=Asked, answer=str, scope=READ, run=nothing, summary="Does", errors=("404: no",)
    )
    assert rpc_docs.page([method]).partition("## x.y\n\n")[2].partition("# Shapes")[0] == (
        "Does. Needs the scope `agent:read`. Answers with str, as REST answers it.\n\nWhat is asked.\n\n"
        "| field | type | default |\n| --- | --- | --- |\n"
        "| `someNumber` | integer | required |\n"
        '| `choice` | `"a"`, `"b"` | `"a"` |\n'
        "| `words` | list of text |  |\n"
        "| `perhaps` | number |  |\n"
        "| `leftOut` | `true` or `false` |  |\n"
        "\n- 404: no\n\n"
    )
