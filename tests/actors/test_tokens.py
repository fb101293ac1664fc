import subprocess
import sys
import threading
from pathlib import Path

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import tokens
from actors.tokens import LONG_CHARS, Calibration, Counter, estimate

SAMPLES = {
    "English": "The user prefers tea over coffee, and lives in Vienna with two cats and a parrot.",
    "JSON": '{"name": "memory_insert", "arguments": {"label": "human", "new_string": "Plays chess."}}',
    "German": "Größe über alles: Die Straßenbahn fährt täglich von München nach Nürnberg.",
    "Russian": "Привет, мир. Сегодня хорошая погода, и я хочу пойти гулять в парк вместе.",
    "Japanese": "こんにちは世界、今日は良い天気ですね。私は東京に住んでいる学生です。",
    "Chinese": "你好世界。今天天气很好。我想去公园散步。然后和朋友一起吃晚饭。",
    "Korean": "안녕하세요 세계, 오늘 날씨가 좋네요. 공원에 가고 싶어요.",
    "Arabic": "مرحبا بالعالم، الطقس جميل اليوم وأريد الذهاب إلى الحديقة",
    "Hindi": "नमस्ते दुनिया आज मौसम अच्छा है और मैं पार्क जाना चाहता हूँ",
}


@pytest.fixture(scope="module")
def exact() -> Counter:
    counter = Counter()
    assert anyio.run(counter.need_exact)
    return counter


@pytest.mark.parametrize("language", SAMPLES)
def test_an_estimate_is_within_half_of_the_exact_count(language: str, exact: Counter) -> None:
    text = SAMPLES[language]
    assert estimate(text) == pytest.approx(exact.count(text), rel=1 / 2)


@given(st.text())
def test_bytes_are_estimated_as_the_text_they_encode(text: str) -> None:
    assert estimate(text.encode("utf-8", "surrogatepass")) >= 0
    if text.isprintable():
        assert estimate(text.encode()) == estimate(text)


def test_only_nothing_has_no_tokens() -> None:
    assert estimate("") == estimate(b"") == 0
    assert estimate("a") == estimate(b"a") == 1
    assert estimate("é") >= 1
    assert estimate("\ud800") >= 1
    assert estimate(b"\xff\xfe") >= 1


def test_a_counter_estimates_until_it_is_asked_to_be_exact(exact: Counter) -> None:
    counter = Counter()
    assert not counter.exact
    assert counter.count(SAMPLES["JSON"]) == estimate(SAMPLES["JSON"])
    assert exact.exact
    assert exact.count("hello world") == 2
    assert exact.count("<|endoftext|>") > 1, "special tokens in a text are text"


async def test_asking_twice_at_once_loads_the_vocabulary_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[int] = []
    load = tokens._load

    def counted() -> object:
        loads.append(threading.get_ident())
        return load()

    monkeypatch.setattr(tokens, "_load", counted)
    counter = Counter()
    async with anyio.create_task_group() as group:
        group.start_soon(counter.need_exact)
        group.start_soon(counter.need_exact)
    assert await counter.need_exact()
    assert len(loads) == 1
    assert loads[0] != threading.get_ident(), "the vocabulary is never loaded on the event loop"


async def test_a_damaged_vocabulary_leaves_estimates_and_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def damaged() -> object:
        raise ValueError("Hash mismatch")

    monkeypatch.setattr(tokens, "_load", damaged)
    counter = Counter()
    assert not await counter.need_exact()
    assert counter.failure == "Hash mismatch"
    assert counter.count("hello world") == estimate("hello world")
    monkeypatch.undo()
    assert await counter.need_exact()
    assert counter.failure is None


async def test_long_texts_are_counted_exactly_off_the_event_loop(exact: Counter) -> None:
    seen: list[int] = []

    class Watched:
        def encode_ordinary(self, text: str) -> list[int]:
            seen.append(threading.get_ident())
            return exact._vocabulary.encode_ordinary(text)  # type: ignore[union-attr]

    counter = Counter()
    counter._vocabulary = Watched()
    text = SAMPLES["English"] * 2_000
    assert len(text) > LONG_CHARS
    assert counter.count(text) == estimate(text)
    assert seen == []
    counted = await counter.count_long(text)
    assert counted == len(exact._vocabulary.encode_ordinary(text))  # type: ignore[union-attr]
    assert len(seen) == 1
    assert threading.get_ident() not in seen
    assert await counter.count_long("hello world") == 2


async def test_long_texts_are_estimated_while_nothing_is_loaded() -> None:
    assert await Counter().count_long("word " * 10_000) == estimate("word " * 10_000)


def test_lone_surrogates_are_counted_not_refused(exact: Counter) -> None:
    assert exact.count("a\ud800b") >= 1


def test_neither_import_nor_load_touches_the_network(tmp_path: Path) -> None:
    script = """
import socket, sys
def refuse(*_):
    raise AssertionError("a connection was tried")
socket.socket.connect = socket.socket.connect_ex = socket.create_connection = socket.getaddrinfo = refuse
import actors.tokens
assert "tiktoken" not in sys.modules, "importing costs nothing"
import anyio
counter = actors.tokens.Counter()
assert anyio.run(counter.need_exact), counter.failure
assert counter.count("hello world") == 2
assert "requests" not in sys.modules, "nothing was downloaded"
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={"TIKTOKEN_CACHE_DIR": str(tmp_path), "PATH": "", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_calibration_learns_the_provider_s_ratio() -> None:
    calibration = Calibration()
    assert calibration.apply(1_000) == 1_000
    for _ in range(3):
        calibration = calibration.observe(ours=1_000, reported=1_250)
    assert calibration.ratio == pytest.approx(1.25)
    assert calibration.apply(1_000) == 1_250
    for _ in range(15):
        calibration = calibration.observe(ours=1_000, reported=900)
    assert calibration.ratio == pytest.approx(0.9, abs=0.02), "it follows a change"


@given(st.lists(st.tuples(st.integers(0, 10**6), st.integers(-5, 10**9)), max_size=30))
def test_no_report_moves_the_ratio_out_of_its_bounds(calls: list[tuple[int, int]]) -> None:
    calibration = Calibration()
    for ours, reported in calls:
        calibration = calibration.observe(ours=ours, reported=reported)
    assert 0.5 <= calibration.ratio <= 3.0
    assert calibration.apply(0) == 0


def test_calls_that_tell_nothing_change_nothing() -> None:
    calibration = Calibration()
    assert calibration.observe(ours=10, reported=40) is calibration
    assert calibration.observe(ours=1_000, reported=0) is calibration


async def test_a_text_fits_by_its_exact_count_and_a_short_one_needs_no_vocabulary() -> None:
    counter = Counter()
    assert await counter.fits("x" * 100, 100)
    assert not counter.exact
    dense = "? " * 4_000  # half as many by its estimate
    assert estimate(dense) < 2_500
    assert not await counter.fits(dense, 3_900)
    assert await counter.fits(dense, 4_100)
    assert counter.exact
