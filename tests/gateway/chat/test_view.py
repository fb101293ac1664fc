import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from gateway.chat import view as chat_view
from gateway.chat.view import Plain, Terminal, View


def talk(view: View) -> None:
    view.notice("This is ada.")
    view.begin("reasoning")
    for word in ("Let me ", "see.\nHm."):
        view.text(word)
    view.end()
    view.call("memory_insert", '{"label":"human","new_string":"Zoë"}')
    view.result("ok\nreally", good=True)
    view.result("no such block", good=False)
    view.begin("answer")
    view.text("Half of")
    view.drop()
    view.begin("answer")
    for word in ("Hello\n", "Zoë."):
        view.text(word)
    view.end()


def test_through_a_pipe_there_are_whole_messages_one_after_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    talk(Plain())
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "(thinks) Let me see. Hm.",
        '(calls) memory_insert(label="human", new_string="Zoë")',
        "(returns) ok really",
        "(fails) no such block",
        "Hello",
        "Zoë.",
    ]
    assert err == "This is ada.\n"


def on_terminal(*, color: bool) -> str:
    screen = io.StringIO()
    talk(
        Terminal(
            Console(
                file=screen,
                force_terminal=color,
                no_color=not color,
                color_system="standard" if color else None,
            )
        )
    )
    return screen.getvalue()


def test_on_a_terminal_words_come_as_they_are_and_each_thing_has_its_line() -> None:
    assert on_terminal(color=False).splitlines() == [
        "This is ada.",
        "Let me see.",
        "Hm.",
        'memory_insert(label="human", new_string="Zoë")',
        "-> ok really",
        "-> no such block",
        "Half of",
        "Hello",
        "Zoë.",
    ]


def test_on_a_terminal_thoughts_are_dim_and_answers_are_not() -> None:
    screen = on_terminal(color=True)
    assert "\x1b[2;3mLet me \x1b[0m" in screen
    assert "\x1b[31m-> no such block" in screen
    assert "Hello\nZoë." in screen


@given(st.text())
def test_no_text_steers_the_terminal(text: str) -> None:
    shown = chat_view.printable(text)
    assert not any((ord(mark) < 32 and mark not in "\n\t") or 127 <= ord(mark) < 160 for mark in shown)
    assert len(shown) == len(text)


@given(st.text(), st.text())
def test_a_call_is_one_line(name: str, arguments: str) -> None:
    assert len(chat_view.shown_call(name, arguments).splitlines()) <= 1


def test_long_things_are_cut(capsys: pytest.CaptureFixture[str]) -> None:
    Plain().result("x" * 1000, good=True)
    Plain().call("tool", '{"text":"' + "y" * 1000 + '"}')
    assert all(len(line) < 250 and "…" in line for line in capsys.readouterr().out.splitlines())
