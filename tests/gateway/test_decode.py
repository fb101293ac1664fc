"""Bodies, query strings and path parameters become values, or a refusal that names the place."""

import contextlib
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from gateway import decode
from gateway.decode import MAX_DEPTH, Int64, Limit
from gateway.errors import InvalidRequestError


class Inner(Struct, frozen=True):
    role: str


class Thing(Struct, frozen=True):
    name: str = ""
    count: Int64 = 0
    flag: bool = False
    inner: tuple[Inner, ...] = ()
    extra: dict[str, Any] = {}


class Query(Struct, frozen=True, kw_only=True):
    limit: Limit | None = 50
    name: str | None = None
    tags: tuple[str, ...] | None = None
    numbers: tuple[int, ...] = ()
    flag: bool = False
    since: datetime | None = None


def refusal(data: bytes) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as error:
        decode.body(data, Thing)
    return error.value


# --- bodies ---------------------------------------------------------------------------------


storable = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | storable,
    lambda inner: st.lists(inner) | st.dictionaries(storable, inner),
    max_leaves=20,
)


@given(values, st.booleans())
def test_what_a_client_may_send_comes_back_as_it_was(value: object, ascii_only: bool) -> None:
    data = json.dumps({"extra": {"value": value}}, ensure_ascii=ascii_only).encode()
    assert decode.body(data, Thing).extra == {"value": value}


@given(st.binary(max_size=200))
def test_no_bytes_raise_anything_but_a_refusal(data: bytes) -> None:
    with contextlib.suppress(InvalidRequestError):
        decode.body(data, Thing)


@pytest.mark.parametrize(
    ("data", "place"),
    [
        (b"", "empty"),
        (b" \n\t", "empty"),
        (b'{"a":1,}', "byte 7"),
        (b'{"name":"a', "byte 10"),
        (b'{"name":"\xff"}', "byte 9"),
        (b'{"unknown":"\xff"}', "byte 12"),
        (b"\xef\xbb\xbf{}", "byte 0"),
        (b'{"count":NaN}', "byte 9"),
        (b"{}x", "byte 3"),
    ],
)
def test_malformed_json_is_refused_with_its_position(data: bytes, place: str) -> None:
    error = refusal(data)
    assert error.kind == "invalid_json"
    assert place in str(error)


@pytest.mark.parametrize(
    ("data", "param"),
    [
        (b"[]", None),
        (b'{"count":true}', "/count"),
        (b'{"count":1.5}', "/count"),
        (b'{"count":9223372036854775808}', "/count"),
        (b'{"flag":1}', "/flag"),
        (b'{"inner":[{"role":"a"},{"role":1}]}', "/inner/1/role"),
        (b'{"inner":[{}]}', "/inner/0"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_pointer(data: bytes, param: str | None) -> None:
    error = refusal(data)
    assert error.kind == "validation_error"
    assert error.param == param


@pytest.mark.parametrize(
    ("data", "param", "word"),
    [
        (rb'{"inner":[{"role":"a\u0000"}]}', "/inner/0/role", "NUL"),
        (rb'{"extra":{"a\u0000b":1}}', "/extra", "NUL"),
        (rb'{"name":"\ud800"}', "/name", "surrogate"),
        (rb'{"name":"\uDC00x"}', "/name", "surrogate"),
        (rb'{"ignored":{"deep":["\ud83dx"]}}', "/ignored/deep/0", "surrogate"),
        (b'{"ignored":' + b"9" * 5000 + rb',"name":"\u0000"}', "/name", "NUL"),
    ],
)
def test_text_that_postgres_cannot_hold_is_refused_by_its_field(data: bytes, param: str, word: str) -> None:
    error = refusal(data)
    assert error.param == param
    assert word in str(error)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (rb'{"name":"a\u0000b"}', rb'{"name":"ab"}'),
        (rb'{"name":"\\u0000"}', rb'{"name":"\\u0000"}'),
        (rb'{"name":"\\\u0000"}', rb'{"name":"\\"}'),
        (rb'{"a\u0000":["\"\u0000\n"]}', rb'{"a":["\"\n"]}'),
        (b'{"name":"x"}', b'{"name":"x"}'),
    ],
)
def test_nul_characters_are_taken_out_and_nothing_else(sent: bytes, kept: bytes) -> None:
    assert decode.without_nul(sent) == kept


def test_an_escaped_backslash_before_u0000_is_ordinary_text() -> None:
    assert decode.body(rb'{"name":"\\u0000"}', Thing).name == r"\u0000"
    assert decode.body(rb'{"name":"\ud83d\ude00"}', Thing).name == "\U0001f600"


def test_nesting_is_bounded_wherever_it_is() -> None:
    for field in (b"extra", b"ignored"):
        deep = b"[" * (MAX_DEPTH - 2) + b"]" * (MAX_DEPTH - 2)
        decode.body(b'{"%s":{"a":%s}}' % (field, deep), Thing)
        error = refusal(b'{"%s":{"a":[%s]}}' % (field, deep))
        assert error.kind == "too_deep"
    assert refusal(b'{"a":' * 50_000).kind == "too_deep"


def test_brackets_in_strings_and_in_width_are_not_depth() -> None:
    text = '{"[' * 200 + '\\"'
    wide = {"extra": {"a": [[]] * 500}, "name": text}
    assert decode.body(json.dumps(wide).encode(), Thing).name == text


def test_of_duplicate_keys_the_last_counts() -> None:
    assert decode.body(b'{"name":"a","name":"b"}', Thing).name == "b"


@pytest.mark.parametrize(
    ("value", "param", "place"),
    [
        ({"role": 1}, "/inner/role", "$.inner.role"),
        ("text", "/inner", "$.inner"),
    ],
)
def test_a_part_of_a_body_is_refused_at_its_place_in_the_whole(value: object, param: str, place: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        decode.convert(value, Inner, param="/inner")
    assert refused.value.param == param
    assert str(refused.value).endswith(f" - at `{place}`")


def test_a_part_of_a_list_is_refused_at_its_place_in_the_whole() -> None:
    with pytest.raises(InvalidRequestError) as refused:
        decode.convert([{"role": "a"}, {}], tuple[Inner, ...], param="/agents/0/inner")
    assert refused.value.param == "/agents/0/inner/1"
    assert str(refused.value).endswith(" - at `$.agents[0].inner[1]`")


# --- query strings --------------------------------------------------------------------------


def test_parameters_are_read_as_their_types() -> None:
    raw = b"limit=7&name=a%20b&tags=x&tags=y&numbers=1&numbers=2&flag=true&unknown=1"
    expected = Query(limit=7, name="a b", tags=("x", "y"), numbers=(1, 2), flag=True)
    assert decode.query(raw, Query) == expected
    assert decode.query(b"", Query) == Query()


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-01-02", datetime(2026, 1, 2, tzinfo=UTC)),
        ("2026-01-02T03:04:05", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05Z", datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05+01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
        ("2026-01-02T03:04:05%2B01:00", datetime(2026, 1, 2, 2, 4, 5, tzinfo=UTC)),
    ],
)
def test_instants_are_utc_unless_they_say_otherwise(text: str, moment: datetime) -> None:
    assert decode.query(f"since={text}".encode(), Query).since == moment


@pytest.mark.parametrize(
    ("raw", "param"),
    [
        (b"limit=0", "/limit"),
        (b"limit=1001", "/limit"),
        (b"limit=-1", "/limit"),
        (b"limit=", "/limit"),
        (b"limit=NaN", "/limit"),
        (b"limit=1e3x", "/limit"),
        (b"flag=maybe", "/flag"),
        (b"numbers=1&numbers=x", "/numbers/1"),
        (b"since=9999999-99-99", "/since"),
        (b"since=10000-01-01T00:00:00Z", "/since"),
        (b"since=nan", "/since"),
        (b"name=a%00b", None),
        (b"name=%ff", None),
        (b"name=" + b"a" * 70_000, None),
        (b"&".join(b"tags=%d" % i for i in range(300)), None),
    ],
)
def test_parameters_that_mean_nothing_are_refused(raw: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequestError) as error:
        decode.query(raw, Query)
    assert error.value.param == param


# --- paths and labels -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "fits"),
    [
        ("agent_id", "agent-00000000-0000-4000-8000-000000000000", True),
        ("agent_id", "agent-00000000-0000-1000-8000-000000000000", False),
        ("agent_id", "agent-00000000-0000-4000-8000-000000000000\n", False),
        ("agent_id", "block-00000000-0000-4000-8000-000000000000", False),
        ("agent_id", "AGENT-00000000-0000-4000-8000-000000000000", False),
        ("path_run_id", "run-00000000-0000-4000-8000-000000000000", True),
        ("conversation_id", "default", True),
        ("conversation_id", "agent-00000000-0000-4000-8000-000000000000", True),
        ("conversation_id", "defaults", False),
        ("block_label", "system/persona", True),
        ("block_label", "a b", False),
        ("page", "../settings", False),
        ("chat_id", "any/text at all, ü", True),
        ("chat_id", "a\nb", False),
        ("chat_id", "x" * 257, False),
    ],
)
def test_path_parameters_have_one_form(name: str, value: str, fits: bool) -> None:
    if fits:
        assert decode.path_parameter(name, value) == value
    else:
        with pytest.raises(InvalidRequestError):
            decode.path_parameter(name, value)


@pytest.mark.parametrize("value", ["human", "a/b", "v1.2_x-y", "x" * 100])
def test_labels_of_plain_characters_are_allowed(value: str) -> None:
    assert decode.label(value, param="/label") == value


@pytest.mark.parametrize(
    "value", ["", "x" * 101, "a b", "</x>", "é", "a/../b", "./a", "/a", "a/", "a//b", "..", "a\n", "{x}"]
)
def test_labels_that_could_be_taken_for_markup_or_paths_are_refused(value: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        decode.label(value, param="/label")
    assert error.value.param == "/label"


def test_a_query_that_must_be_given_is_missed_even_where_nothing_is() -> None:
    class Required(Struct):
        term: str

    for raw in (b"", b"other=1"):
        with pytest.raises(InvalidRequestError, match="term"):
            decode.query(raw, Required)
