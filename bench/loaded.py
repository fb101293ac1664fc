"""What load is put on: this server and the relay by each of their doors, the floor, and anyone's server."""

import asyncio
from collections.abc import Sequence
from typing import cast

import msgspec

from bench import load, targets
from bench.case import Bench
from bench.doors import Door, Way, post
from bench.foreign import WAKE, Foreign
from bench.load import Job, Slot
from bench.provider import Provider
from bench.replies import Reply
from bench.targets import Relay, Target, Wakeful

WAKING = 32  # at once


class Floor:
    """The provider itself: what the same client sees where no server stands between."""

    name = "floor"

    def __init__(self, provider: Provider) -> None:
        self.provider = provider

    def start(self) -> None:
        """Do nothing: it has been started."""

    def stop(self) -> None:
        """Do nothing: who started it ends it."""


Loaded = Floor | Foreign | Relay | Wakeful


def doors(target: Loaded, way: Way, model: str) -> list[Door]:
    """The doors of a target by which it answers in this way, for messages to agents of this model."""
    match target:
        case Floor():
            return [Door(name="floor", wire="openai", url=target.provider.base_url, way=way, model=model)]
        case Foreign(at=at):
            if at.kind == "agui" and way == "blocking":
                return []  # AG-UI streams
            given = Door(name=target.name, wire=at.kind, url=at.url, way=way, key=at.key)
            return [msgspec.structs.replace(given, model=at.model or model)]
        case Relay():
            return [Door(name="relay", wire="relay", url=_root(target), way=way)]
        case Wakeful():
            root = _root(target)
            if way == "blocking":
                return [Door(name="ours, REST", wire="letta", url=root, way=way)]
            return [
                Door(name="ours, websocket", wire="websocket", url=root),
                Door(name="ours, SSE", wire="letta", url=root),
                Door(name="ours, AG-UI", wire="agui", url=f"{root}/v1/agui/agents/{{agent}}"),
            ]


def asking(door: Door, model: str) -> Door:
    """The same door for messages to agents of another model, where the door names the model."""
    if door.wire != "openai" or not door.model.startswith("fixed-"):
        return door
    return msgspec.structs.replace(door, model=model)


def agents(bench: Bench, target: Loaded, count: int, model: str) -> list[str]:
    """So many agents of a model, made when they are first needed and used again."""
    made = bench.once(("agents", target.name, model), list[str])
    if count > len(made):
        made += fresh(bench, target, count - len(made), model)
    return made[:count]


def fresh(bench: Bench, target: Loaded, count: int, model: str) -> list[str]:
    """Make agents that have answered once: what waking costs is not what load asks.

    The model answers that at once where it is the scripted one. Without agents a server gets names of lines.
    """
    awaken(bench)
    match target:
        case Floor():
            return [f"line-{index}" for index in range(count)]
        case Foreign():
            made = target.make(count, model)
            target.wake(made)
        case Relay() | Wakeful():
            made = targets.create_agents(target, count, model)
            wake(target, made)
    return made


def awaken(bench: Bench) -> None:
    """Let the scripted model answer at once where agents are woken, whatever its speed."""
    answer = Reply(text="Awake.", match=WAKE, repeat="forever")
    bench.once(("wake",), lambda: asyncio.run(bench.provider.script([answer])) or True)


def wake(target: Relay | Wakeful, agents: Sequence[str]) -> None:
    """Let agents answer once. Raises `RuntimeError` where one does not."""
    (door,) = doors(target, "blocking", "")
    posts = [post(door, agent, WAKE, run="") for agent in agents]
    requests = [(one.path, one.body.decode()) for one in posts]
    slots = [Slot(requests[start::WAKING]) for start in range(min(WAKING, len(requests)))]
    targets.check(load.run(Job(port=cast("Target", target).port, slots=slots)))


def _root(target: Relay | Wakeful) -> str:
    return f"http://127.0.0.1:{cast('Target', target).port}"
