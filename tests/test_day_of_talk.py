"""A day of talk through the server: three hundred turns in a small window, and nothing is forgotten.

    WAKEFUL_TALK_MODEL=ollama/qwen3:8b pytest tests/test_day_of_talk.py --timeout 0 -s

runs the same day by hand with a model of a configured provider; the facts are then asked for as a person
would, and how many were found is printed instead of demanded.
"""

import os
from typing import Any

import pytest

from actors.llm.catalog import providers_from_env
from actors.llm.demo import DemoModel
from storage.pool import Pool
from tests.serving import Served, serving

MODEL = os.environ.get("WAKEFUL_TALK_MODEL", "demo/scripted")
DEMO = MODEL == "demo/scripted"
TURNS = 300
WINDOW = 8_000
COMPACTIONS = {"event_message", "summary_message"}

FACTS = {
    "What is the name of my sister?": ("My sister is called Marlene.", "Marlene"),
    "Where do I keep the spare key?": ("I keep the spare key under the blue flowerpot.", "flowerpot"),
    "What is my favourite tea?": ("My favourite tea is Lapsang Souchong.", "Lapsang"),
    "Which day is the dentist appointment?": (
        "The dentist appointment is on Thursday the ninth.",
        "Thursday",
    ),
    "Who repaired my bicycle?": ("My bicycle was repaired by Ottokar.", "Ottokar"),
}
SMALL_TALK = (
    "Well, number {n} of a long day: the rain comes and goes, the kettle hums, somebody on the stairs "
    "whistles a tune that I nearly know, and the cat watches the window as if it were the theatre."
)


class Day:
    """One agent and what its client was told."""

    def __init__(self, served: Served, agent_id: str) -> None:
        self._served = served
        self._agent_id = agent_id
        self.told: list[dict[str, Any]] = []

    async def say(self, text: str) -> str:
        """Return the answer to a message; anything but an ordinary end of the turn fails."""
        answer = await self._served.json(
            "POST",
            f"/v1/agents/{self._agent_id}/messages",
            json={"input": text, "include_compaction_messages": True},
            timeout=None,
        )
        assert answer["stop_reason"]["stop_reason"] == "end_turn"
        self.told += [m for m in answer["messages"] if m["message_type"] in COMPACTIONS]
        said = (m["content"] for m in answer["messages"] if m["message_type"] == "assistant_message")
        return "".join(said)


@pytest.fixture
def swift_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the demo speak without pauses."""
    made = DemoModel.__init__
    monkeypatch.setattr(DemoModel, "__init__", lambda self, pace=0.0: made(self, pace))


@pytest.mark.usefixtures("swift_demo")
@pytest.mark.timeout(60)
async def test_a_day_of_talk_in_a_small_window_forgets_nothing(pool: Pool) -> None:
    async with serving(pool, providers=() if DEMO else providers_from_env(os.environ)) as served:
        # No block to write to: what it knows at the end it knows from summaries and searches alone.
        agent = await served.agent(
            model=MODEL,
            context_window_limit=WINDOW,
            include_base_tools=False,
            tools=["conversation_search"],
        )
        day = Day(served, agent["id"])
        for stated, _ in FACTS.values():
            await day.say(stated)
        for number in range(len(FACTS), TURNS - len(FACTS)):
            await day.say(SMALL_TALK.format(n=number))
        answers = {question: await day.say(question) for question in FACTS}
        await every_compaction_was_told(served, agent["id"], day.told)
    found = [question for question, (_, word) in FACTS.items() if word in answers[question]]
    print(f"{len(found)} of {len(FACTS)} facts found, {len(day.told) // 2} compactions")
    assert len(found) == len(FACTS) or not DEMO, answers


async def every_compaction_was_told(served: Served, agent_id: str, told: list[dict[str, Any]]) -> None:
    stored = await served.json(
        "GET", f"/v1/agents/{agent_id}/messages", params={"limit": 1000, "order": "asc"}
    )
    while len(stored) % 1000 == 0 and stored:
        after = stored[-1]["id"]
        stored += await served.json(
            "GET",
            f"/v1/agents/{agent_id}/messages",
            params={"limit": 1000, "order": "asc", "after": after},
        )
    summaries = [m["id"] for m in stored if m["message_type"] == "summary_message"]
    events = [m for m in told if m["message_type"] == "event_message"]
    assert len(summaries) >= 3
    assert summaries == [m["id"] for m in told if m["message_type"] == "summary_message"]
    assert len(events) == len(summaries)
    for summary in (m for m in told if m["message_type"] == "summary_message"):
        assert summary["compaction_stats"]["context_tokens_after"] <= WINDOW
    context = await served.json("GET", f"/v1/agents/{agent_id}/context")
    assert context["context_window_size_current"] <= context["context_window_size_max"] == WINDOW
    assert context["summary_memory"]
