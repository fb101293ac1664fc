"""A day of talk with a real model on this machine: three hundred turns in a window of 8,192 tokens.

    WAKEFUL_TEST_GGUF=model.gguf pytest -m local_llm tests/test_local_day.py -s

What the server promises is demanded: no turn ends in an error, every compaction is told to the client, and
what was said first is found at the end. What the model makes of it is printed. With half a billion
parameters on one thread a day takes an hour or two; `WAKEFUL_TEST_TURNS` shortens it.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from bench.targets import Process, environment, free_port, serve_command
from tests import local_model
from tests.test_day_of_talk import COMPACTIONS, FACTS

TURNS = int(os.environ.get("WAKEFUL_TEST_TURNS", "300"))
WINDOW = 8_192
ANSWER_TOKENS = 64
TURN_SECONDS = 1_800.0  # a compaction reads most of the window anew
ORDINARY = {"end_turn", "max_steps", "max_tokens_exceeded"}
SMALL_TALK = (
    "It rains again.",
    "The kettle hums.",
    "What shall we cook tonight?",
    "I hear somebody whistle on the stairs.",
    "The cat watches the window.",
    "How was your morning?",
    "I am reading about lighthouses.",
    "Tell me something about bread.",
    "The bus was late.",
    "My plant has a new leaf.",
    "Is it time for a walk?",
)
pytestmark = [*local_model.NEEDS_MODEL, pytest.mark.timeout(6 * 3_600)]


class Day:
    """One agent of a server in a process of its own, and what its client was told."""

    def __init__(self, http: httpx.Client, agent_id: str) -> None:
        self.http = http
        self._agent_id = agent_id
        self._began = time.monotonic()
        self.turns = 0
        self.told: list[dict[str, Any]] = []
        self.stops: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()

    def json(self, method: str, path: str, **more: Any) -> Any:
        """Send a request and return the answer's JSON."""
        response = self.http.request(method, path, **more)
        assert response.status_code == 200, (response.status_code, response.text)
        return response.json()

    def say(self, text: str) -> list[dict[str, Any]]:
        """Return what a message was answered with; a turn that ends in an error fails."""
        began = time.monotonic()
        answer = self.json(
            "POST",
            f"/v1/agents/{self._agent_id}/messages",
            json={"input": text, "include_compaction_messages": True, "max_steps": 4},
        )
        messages: list[dict[str, Any]] = answer["messages"]
        stop: str = answer["stop_reason"]["stop_reason"]
        self.turns += 1
        self.stops[stop] += 1
        self.calls.update(
            m["tool_call"]["name"] for m in messages if m["message_type"] == "tool_call_message"
        )
        self._print(text, messages, f"{stop}, {time.monotonic() - began:.0f} s")
        assert stop in ORDINARY, answer
        assert said(messages) or stop != "end_turn", answer
        self.told += [m for m in messages if m["message_type"] in COMPACTIONS]
        return messages

    def stored(self) -> list[dict[str, Any]]:
        """Return every message of the agent, the oldest first."""
        found: list[dict[str, Any]] = []
        where: dict[str, Any] = {"limit": 500, "order": "asc"}
        while page := self.json("GET", f"/v1/agents/{self._agent_id}/messages", params=where):
            found += page
            where["after"] = page[-1]["id"]
        return found

    def _print(self, text: str, messages: list[dict[str, Any]], end: str) -> None:
        say(f"[{time.monotonic() - self._began:6.0f} s] turn {self.turns}: {text}")
        for message in messages:
            match message["message_type"]:
                case "tool_call_message":
                    say(f"    calls {message['tool_call']['name']} {message['tool_call']['arguments'][:200]}")
                case "tool_return_message":
                    say(f"    {message['status']}: {message['tool_return'][:200]!r}")
                case "summary_message":
                    say(f"    COMPACTED {message['compaction_stats']}\n    {message['summary'][:400]!r}")
                case "assistant_message":
                    say(f"    says {message['content'][:300]!r}")
                case _:
                    pass
        say(f"    ({end})")


def say(line: str) -> None:
    print(line, flush=True, file=sys.stdout)


def small_talk(number: int) -> str:
    """Return three remarks, other ones in each turn: a day of them fills the window several times."""
    remarks = (SMALL_TALK[number * step % len(SMALL_TALK)] for step in (1, 3, 5))
    return f"{' '.join(remarks)} ({number})"


def said(messages: list[dict[str, Any]]) -> str:
    return "".join(m["content"] for m in messages if m["message_type"] == "assistant_message")


@contextmanager
def server(dsn: str, base_url: str, home: Path) -> Generator[httpx.Client]:
    """Run this server on the model's endpoint until the block ends."""
    port = free_port()
    command = [*serve_command(port, home), "--database-url", dsn, "--host-name", "local-day"]
    env = environment() | {"LLAMACPP_BASE_URL": base_url, "WAKEFUL_FIRST_TOKEN_TIMEOUT": "1500"}
    env |= {"WAKEFUL_IDLE_TIMEOUT": "1500"}
    process = Process(command, env, home / "server.log")
    try:
        process.wait_ready(port, "/v1/health/")
        with httpx.Client(
            base_url=f"http://127.0.0.1:{port}", timeout=TURN_SECONDS, trust_env=False, headers={}
        ) as http:
            yield http
    finally:
        process.stop()


def test_a_real_model_lives_through_a_day_of_talk(dsn: str, tmp_path: Path) -> None:
    with local_model.served(WINDOW) as base_url:
        with server(dsn, base_url, tmp_path) as http:
            model = "llamacpp/qwen2.5-coder"  # the handle's name decides that it is spoken to in JSON
            settings = {"temperature": 0.0, "max_output_tokens": ANSWER_TOKENS}
            body: dict[str, Any] = {"memory_blocks": [{"label": "human", "value": ""}]}
            body |= {
                "name": "day",
                "model": model,
                "context_window_limit": WINDOW,
                "model_settings": settings,
            }
            body["system"] = (
                "You are a kind companion who talks with a person through a long day. Answer in one short "
                "sentence. What the person asks about earlier days you look up with conversation_search."
            )
            agent = Day(http, "").json("POST", "/v1/agents/", json=body)
            day = Day(http, agent["id"])
            for stated, _ in FACTS.values():
                day.say(stated)
            for number in range(len(FACTS), TURNS // 2):
                day.say(small_talk(number))
        with server(dsn, base_url, tmp_path) as http:  # a day is longer than a process
            day.http = http
            for number in range(TURNS // 2, TURNS - len(FACTS)):
                day.say(small_talk(number))
            answers = {question: day.say(question) for question in FACTS}
            report(day, agent["id"], answers)


def report(day: Day, agent_id: str, answers: dict[str, list[dict[str, Any]]]) -> None:
    """Demand what the server promises, and print what the model made of it."""
    answered = sum(word in said(answers[question]) for question, (_, word) in FACTS.items())
    shown = sum(word in str(answers[question]) for question, (_, word) in FACTS.items())
    say(f"{day.turns} turns: {dict(day.stops)}; calls {dict(day.calls)}")
    say(f"{len(day.told) // 2} compactions told; {answered} facts answered, {shown} shown, of {len(FACTS)}")
    stored = day.stored()
    summaries = [m["id"] for m in stored if m["message_type"] == "summary_message"]
    assert summaries == [m["id"] for m in day.told if m["message_type"] == "summary_message"]
    assert len(summaries) == sum(m["message_type"] == "event_message" for m in day.told)
    assert len(summaries) >= 3 or TURNS < 300
    for question, (stated, word) in FACTS.items():
        where = {"agent_id": agent_id, "query": stated, "limit": 5}
        found = day.json("POST", "/v1/messages/search", json=where)
        assert any(word in hit["content"] for hit in found), question
    context = day.json("GET", f"/v1/agents/{agent_id}/context")
    assert context["context_window_size_current"] <= context["context_window_size_max"] == WINDOW
    say(f"{len(stored)} messages are stored; memory at the end: {context['core_memory'][:2000]}")
