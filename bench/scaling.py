"""The model of scaling: what a load takes of a server and its database, and how many of them hold it.

Everything is a sum of measured costs times rates. The costs are `bench.costs`; nothing here measures.

- A message costs less the more of them there are: after a pause caches are cold, and nobody shares its commit
  and its turns of the loop. It was measured with pauses at two rates (`paced`), one at a time without a pause
  (`step`), and many at once (`crowd`); from one of these rates to the next, each doubling takes the same
  share off.
- A token costs what it does to the client that sent the message (`paced`, `tokens`), and a frame to each
  watcher of the agent (`paced`, `ws_tokens`), likewise by their rates: to the first watcher more than to
  each further one.
- A message of the history costs what the step with 1,000 of them costs more (`step`).
- Messages go to agents at random, watchers follow one agent each and are spread evenly. An agent stays in
  memory for `HOT_SECONDS` after a message, so that those in memory are those who got one in that time.
"""

import math
from itertools import pairwise

from msgspec import Struct

HOT_SECONDS = 600.0  # `--passivate-after` as it is by default
HOT_BYTES = 1 << 30  # `--hot-bytes`: memory for agents of one host, beyond it they are passivated early
LOG_BYTES = 64 << 20  # `--log-bytes`: the event logs of one host, full under any load that lasts
RUNS_AT_ONCE = 512  # `--max-runs`, of one host
PING_SECONDS = 25.0  # between two pings of a websocket
MEASURED_MESSAGES = 20  # in memory with the agent whose bytes were measured
FRAMES_BESIDE = 9  # of a message, beside its tokens: beginnings and ends of run, step and text, timing
MOST_HOSTS = 1 << 20


class ScalingError(Exception):
    """The load cannot be held on any number of hosts; the message says why."""


class Curve(Struct, frozen=True):
    """What pieces cost together: CPU seconds per second by pieces per second.

    `points` are (pieces per second, CPU seconds per second) in rising order. From one of them to the next,
    each doubling of the rate takes the same share off the cost of a piece; below the first and beyond the
    last a piece costs what it does there.
    """

    points: tuple[tuple[float, float], ...]

    def at(self, rate: float) -> float:
        """CPU seconds per second at a rate."""
        if rate <= self.points[0][0]:
            return _in_proportion(self.points[0], rate)
        for before, after in pairwise(self.points):
            if rate <= after[0]:
                return _between(before, after, rate)
        return _in_proportion(self.points[-1], rate)


def _in_proportion(point: tuple[float, float], rate: float) -> float:
    known_rate, cost = point
    return cost * rate / known_rate


def _between(before: tuple[float, float], after: tuple[float, float], rate: float) -> float:
    """On the straight line between two points where both axes are logarithmic."""
    if not before[1]:  # what costs nothing at a low rate costs nothing at a higher one
        return 0.0
    slope = math.log(after[1] / before[1]) / math.log(after[0] / before[0])
    return before[1] * (rate / before[0]) ** slope


class Costs(Struct, frozen=True, kw_only=True):
    """What was measured. CPU in seconds, memory in bytes."""

    message: Curve
    postgres_message: Curve
    token: Curve
    frame_first: Curve  # to the first watcher of an agent
    frame_further: float  # to each further one
    history_message: float  # per message and message of the history in the window
    postgres_history_message: float
    idle: float  # per second
    postgres_idle: float
    memory_bytes: float  # of a server in use, without agents and connections
    agent_bytes: float  # with `MEASURED_MESSAGES`
    connection_bytes: float
    answer_seconds: float  # a message to a model without latency, alone: both commits are in it
    connections_per_second: float  # opened and subscribed, one host


class Demand(Struct, frozen=True, kw_only=True):
    """The load. `model_seconds` is how long the model takes to answer one message, its tokens included."""

    agents: int
    messages_per_second: float
    watchers: int = 0
    tokens_per_message: float = 100
    history: float = 20
    model_seconds: float = 2.5


class Taken(Struct, frozen=True):
    """CPU seconds per second of one host and of its part in the database."""

    server: float
    postgres: float


class Bound(Struct, frozen=True):
    """One thing that a host has only so much of. `needed` is what all hosts together need of it."""

    name: str
    unit: str
    needed: float
    per_host: float
    hosts: int


class Plan(Struct, frozen=True, kw_only=True):
    """What holds a load. `bounds` has the one that binds first at its beginning. Memory in bytes."""

    hosts: int
    utilisation: float
    server_cpu: float  # of all hosts, CPU seconds per second
    postgres_cpu: float
    postgres_cores: int
    host_memory_bytes: float
    hot_agents: float
    runs_at_once: float
    waking_per_second: float
    reconnect_seconds: float  # until all watchers are back after every host was restarted
    bounds: tuple[Bound, ...]


def plan(demand: Demand, costs: Costs, *, utilisation: float) -> Plan:
    """Find how many hosts hold a load where each CPU may be busy for this share of the time.

    A host is a process with one event loop, so it has one core for itself; the database has cores of its own.

    Raises:
        ScalingError: A host at rest is busier than that already.
    """
    hot_bytes = hot_agents(demand) * agent_bytes(demand, costs)
    running = runs_at_once(demand, costs)
    one = taken(demand, costs, hosts=1)
    bounds = [
        Bound("event loop", "cores", one.server, utilisation, _hosts(demand, costs, utilisation)),
        _bound("runs at once", "runs", running, RUNS_AT_ONCE * utilisation),
        _bound("agents in memory", "MiB", hot_bytes / (1 << 20), HOT_BYTES / (1 << 20)),
    ]
    bounds.sort(key=lambda bound: (bound.hosts, bound.needed / bound.per_host), reverse=True)
    hosts = bounds[0].hosts
    each = taken(demand, costs, hosts=hosts)
    return Plan(
        hosts=hosts,
        utilisation=utilisation,
        server_cpu=each.server * hosts,
        postgres_cpu=each.postgres * hosts,
        postgres_cores=max(1, math.ceil(each.postgres * hosts / utilisation)),
        host_memory_bytes=memory_bytes(demand, costs, hosts=hosts),
        hot_agents=hot_agents(demand),
        runs_at_once=running,
        waking_per_second=waking_per_second(demand),
        reconnect_seconds=demand.watchers / hosts / costs.connections_per_second,
        bounds=tuple(bounds),
    )


def taken(demand: Demand, costs: Costs, *, hosts: int) -> Taken:
    """What one of so many hosts takes, and what its messages take of the database."""
    rate = demand.messages_per_second / hosts
    server = (
        costs.idle
        + costs.message.at(rate)
        + costs.token.at(rate * demand.tokens_per_message)
        + rate * demand.history * costs.history_message
        + _frames(demand, costs, hosts=hosts)
    )
    postgres = costs.postgres_message.at(rate) + rate * demand.history * costs.postgres_history_message
    return Taken(server, costs.postgres_idle / hosts + postgres)


def _frames(demand: Demand, costs: Costs, *, hosts: int) -> float:
    """What the frames of one host cost, its agents with as many watchers as they have on average."""
    if not demand.watchers or not demand.agents:
        return 0.0
    watchers = demand.watchers / demand.agents
    events = demand.messages_per_second / hosts * (demand.tokens_per_message + FRAMES_BESIDE)
    pings = demand.watchers / hosts / PING_SECONDS  # and as many answers
    first = events * min(1.0, watchers) + pings
    further = events * max(0.0, watchers - 1.0) + pings
    return costs.frame_first.at(first) + further * costs.frame_further


def hot_agents(demand: Demand) -> float:
    """How many agents have had a message within `HOT_SECONDS`, on average."""
    if not demand.agents:
        return 0.0
    return demand.agents * -math.expm1(-demand.messages_per_second * HOT_SECONDS / demand.agents)


def waking_per_second(demand: Demand) -> float:
    """How many messages per second find their agent passivated, on average."""
    if not demand.agents:
        return 0.0
    rate = demand.messages_per_second
    return rate * math.exp(-rate * HOT_SECONDS / demand.agents)


def agent_bytes(demand: Demand, costs: Costs) -> float:
    """Memory of an agent that is alive. A longer history is taken in proportion, which is too much."""
    return costs.agent_bytes * max(1.0, demand.history / MEASURED_MESSAGES)


def runs_at_once(demand: Demand, costs: Costs) -> float:
    """Runs under way, on average: those that begin in the time that one takes."""
    return demand.messages_per_second * (demand.model_seconds + costs.answer_seconds)


def memory_bytes(demand: Demand, costs: Costs, *, hosts: int) -> float:
    """Memory of one of so many hosts, where watchers and agents are spread evenly."""
    agents = min(hot_agents(demand) * agent_bytes(demand, costs) / hosts, HOT_BYTES)
    logs = LOG_BYTES if demand.messages_per_second else 0
    return costs.memory_bytes + agents + demand.watchers / hosts * costs.connection_bytes + logs


def _bound(name: str, unit: str, needed: float, per_host: float) -> Bound:
    return Bound(name, unit, needed, per_host, max(1, math.ceil(needed / per_host)))


def _hosts(demand: Demand, costs: Costs, utilisation: float) -> int:
    """The fewest hosts of which each is within the utilisation: what one takes falls with their number."""
    if costs.idle >= utilisation:
        raise ScalingError(f"a host at rest takes {costs.idle:.0%} of a core, more than {utilisation:.0%}")
    enough = 1
    while taken(demand, costs, hosts=enough).server > utilisation:
        enough *= 2
        if enough > MOST_HOSTS:
            raise ScalingError(f"more than {MOST_HOSTS:,} hosts")
    too_few = enough // 2
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        within = taken(demand, costs, hosts=middle).server <= utilisation
        too_few, enough = (too_few, middle) if within else (middle, enough)
    return enough
