"""Tool rules: which tools may be called next and with which arguments, and when a turn may end. Pure."""

import contextlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from storage.records import JsonObject

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Names = Annotated[tuple[Name, ...], Meta(min_length=1, max_length=200)]


class _OfTool(Struct, frozen=True, kw_only=True):
    """What every rule has: the tool it is about. `prompt_template` is kept for clients and not used."""

    tool_name: Name
    prompt_template: str | None = None


class RunFirst(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="run_first"):
    """The first call of a turn must be of this tool; `args` override what the model writes."""

    args: JsonObject | None = None


class ExitLoop(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="exit_loop"):
    """The turn ends after this tool has run."""


class ContinueLoop(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="continue_loop"):
    """The turn goes on after this tool has run."""


class ChildCall(Struct, frozen=True, kw_only=True):
    """A child with arguments that override what the model writes."""

    name: Name
    args: JsonObject | None = None


class ConstrainChildTools(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="constrain_child_tools"):
    """After this tool only its children may be called."""

    children: Names
    child_arg_nodes: tuple[ChildCall, ...] | None = None


class ParentLastTool(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="parent_last_tool"):
    """The children may be called only right after this tool."""

    children: Names


class Conditional(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="conditional"):
    """The result of this tool chooses the next one.

    A result is compared as text first, then by value: `true` matches `True`, `1` matches `1.0`. What
    matches nothing leads to `default_child`; without one every tool stays allowed, unless
    `require_output_mapping` is set.
    """

    child_output_mapping: Annotated[dict[str, Name], Meta(min_length=1, max_length=200)]
    default_child: Name | None = None
    require_output_mapping: bool = False


class MaxCountPerStep(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="max_count_per_step"):
    """This tool may be called at most so many times for one request."""

    max_count_limit: Annotated[int, Meta(ge=1, le=1_000_000)]


class RequiredBeforeExit(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="required_before_exit"):
    """The turn may not end before this tool has run."""


class RequiresApproval(_OfTool, frozen=True, kw_only=True, tag_field="type", tag="requires_approval"):
    """A person must approve each call of this tool."""


Rule = (
    RunFirst
    | ExitLoop
    | ContinueLoop
    | ConstrainChildTools
    | ParentLastTool
    | Conditional
    | MaxCountPerStep
    | RequiredBeforeExit
    | RequiresApproval
)


class Ran(Struct, frozen=True, gc=False):
    """What has run in a turn, as far as rules look at it: how often each tool, and the last one's result."""

    counts: Mapping[str, int] = {}
    last: str | None = None
    output: str = ""

    def after(self, name: str, output: str) -> "Ran":
        """Return what has run once this call has."""
        return Ran({**self.counts, name: self.counts.get(name, 0) + 1}, name, output)

    def refused(self, name: str) -> "Ran":
        """Return what has run once a person denied this call: it was made, and leads nowhere.

        It uses up a limit, is no longer owed, and no rule says what follows: the model can go on without.
        """
        return Ran({**self.counts, name: self.counts.get(name, 0) + 1}, None, "")


class Rules(Struct, frozen=True, kw_only=True):
    """The rules of an agent, sorted by what they decide. Most agents have none.

    `single` says that a rule looks at the order or the result of calls: one call at a time then.
    """

    single: bool = False
    first: Mapping[str, JsonObject] = {}
    exits: frozenset[str] = frozenset()
    continues: frozenset[str] = frozenset()
    children: tuple[ConstrainChildTools, ...] = ()
    parents: Mapping[str, frozenset[str]] = {}
    conditionals: tuple[Conditional, ...] = ()
    limits: Mapping[str, int] = {}
    required: tuple[str, ...] = ()
    all: tuple[Rule, ...] = ()

    def allowed(self, ran: Ran, attached: Iterable[str]) -> tuple[str, ...]:
        """Return the tools that may be called next, in the order of `attached`.

        No dead end: where rules about order leave nothing, they are set aside. Limits never are, so
        nothing is left only where every tool has been called as often as it may.
        """
        left = tuple(name for name in attached if not self._used_up(name, ran))
        if not ran.counts and (first := tuple(name for name in left if name in self.first)):
            return first
        chosen = tuple(name for name in left if self._in_order(name, ran))
        return chosen or left

    def forced(self, ran: Ran, allowed: Sequence[str]) -> bool:
        """Say whether the next answer must be a call: a rule names what comes next, and that is possible."""
        if not ran.counts:
            return any(name in self.first for name in allowed)
        following = self._following(ran)
        return bool(following) and all(any(name in names for name in allowed) for names in following)

    def prefilled(self, name: str, ran: Ran) -> JsonObject:
        """Return the arguments of the next call of `name` that rules set, whatever the model writes."""
        if not ran.counts:
            return self.first.get(name, {})
        set_by_rules: JsonObject = {}
        parents = (rule for rule in self.children if rule.tool_name == ran.last)
        for node in (node for rule in parents for node in rule.child_arg_nodes or ()):
            if node.name == name:
                set_by_rules |= node.args or {}
        return set_by_rules

    def missing(self, ran: Ran, attached: Iterable[str]) -> tuple[str, ...]:
        """Return the attached tools that must still run before the turn may end."""
        held = set(attached)
        return tuple(name for name in self.required if name in held and name not in ran.counts)

    def leads_on(self, name: str) -> bool:
        """Say whether the turn goes on after this tool: a rule says so, or says what comes next."""
        leading = (*self.children, *self.conditionals)
        return name in self.continues or any(rule.tool_name == name for rule in leading)

    def hints(self, name: str, ran: Ran) -> tuple[str, ...]:
        """Return the rules that forbid a call of `name` now, one sentence each."""
        return tuple(sentence(rule) for rule in self.all if _forbids(rule, name, ran))

    def _used_up(self, name: str, ran: Ran) -> bool:
        return name in self.limits and ran.counts.get(name, 0) >= self.limits[name]

    def _in_order(self, name: str, ran: Ran) -> bool:
        parents = self.parents.get(name)
        if parents is not None and ran.last not in parents:
            return False
        return all(name in names for names in self._following(ran))

    def _following(self, ran: Ran) -> list[frozenset[str]]:
        """Return the sets of tools, each named by one rule, to which the last call leads."""
        sets = [frozenset(rule.children) for rule in self.children if rule.tool_name == ran.last]
        chosen = [chosen_by(rule, ran.output) for rule in self.conditionals if rule.tool_name == ran.last]
        return sets + [names for names in chosen if names is not None]


NONE = Rules()


def compiled(rules: Sequence[JsonObject]) -> Rules:
    """Return stored rules sorted by what they decide; one that cannot be read binds nobody."""
    read: list[Rule] = []
    for rule in rules:
        with contextlib.suppress(msgspec.ValidationError):
            read.append(msgspec.convert(rule, Rule))  # type: ignore[arg-type]
    return sorted_out(read) if read else NONE


def sorted_out(rules: Iterable[Rule]) -> Rules:
    """Return rules sorted by what they decide. Of several limits of one tool the lowest counts."""
    kept = unique(rules)
    first: dict[str, JsonObject] = {}
    parents: dict[str, frozenset[str]] = {}
    limits: dict[str, int] = {}
    for rule in kept:
        match rule:
            case RunFirst():
                first[rule.tool_name] = first.get(rule.tool_name, {}) | (rule.args or {})
            case ParentLastTool():
                for child in rule.children:
                    parents[child] = parents.get(child, frozenset()) | {rule.tool_name}
            case MaxCountPerStep():
                known = limits.get(rule.tool_name, rule.max_count_limit)
                limits[rule.tool_name] = min(known, rule.max_count_limit)
            case _:
                pass
    return Rules(
        single=any(not isinstance(rule, RequiresApproval) for rule in kept),
        first=first,
        exits=frozenset(r.tool_name for r in kept if isinstance(r, ExitLoop)),
        continues=frozenset(r.tool_name for r in kept if isinstance(r, ContinueLoop)),
        children=tuple(r for r in kept if isinstance(r, ConstrainChildTools)),
        parents=parents,
        conditionals=tuple(r for r in kept if isinstance(r, Conditional)),
        limits=limits,
        required=tuple(r.tool_name for r in kept if isinstance(r, RequiredBeforeExit)),
        all=kept,
    )


def unique(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Return the rules without repeats: same type, same tool, same parameters."""
    return tuple({msgspec.json.encode(replace(rule, prompt_template=None)): rule for rule in rules}.values())


def chosen_by(rule: Conditional, output: str) -> frozenset[str] | None:
    """Return the tools to which a result leads, or `None` where the rule leaves the choice open.

    Nothing where the result must be one of the mapping and is not.
    """
    mapping = rule.child_output_mapping
    if output in mapping:
        return frozenset({mapping[output]})
    for key, child in mapping.items():
        if _same_value(key, output):
            return frozenset({child})
    if rule.default_child is not None:
        return frozenset({rule.default_child})
    return frozenset() if rule.require_output_mapping else None


def sentence(rule: Rule) -> str:
    """Return what a rule says, for the model."""
    name = rule.tool_name
    match rule:
        case RunFirst():
            return f"{name} comes first."
        case ExitLoop():
            return f"{name} ends your turn."
        case ContinueLoop():
            return f"{name} never ends your turn: go on after it."
        case ConstrainChildTools(children=children):
            return f"After {name}, use only: {', '.join(children)}."
        case ParentLastTool(children=children):
            return f"Only right after {name} may you use: {', '.join(children)}."
        case Conditional():
            outcomes = [f"{tool} after {output}" for output, tool in rule.child_output_mapping.items()]
            if rule.default_child:
                outcomes.append(f"{rule.default_child} after anything else")
            return f"The result of {name} decides the next tool: {'; '.join(outcomes)}."
        case MaxCountPerStep(max_count_limit=limit):
            return f"Use {name} at most {limit} times for one request."
        case RequiredBeforeExit():
            return f"Use {name} before you end your turn."
        case RequiresApproval():
            return f"Each call of {name} waits until a person approves it."


def told(rules: Rules) -> list[str]:
    """Return what the prompt says of the rules, in order. Those that bind the server alone are not told."""
    return [sentence(rule) for rule in rules.all if not isinstance(rule, RequiresApproval)]


def _forbids(rule: Rule, name: str, ran: Ran) -> bool:
    match rule:
        case RunFirst():
            return not ran.counts and rule.tool_name != name
        case ConstrainChildTools(children=children):
            return rule.tool_name == ran.last and name not in children
        case ParentLastTool(children=children):
            return rule.tool_name != ran.last and name in children
        case Conditional():
            chosen = chosen_by(rule, ran.output)
            return rule.tool_name == ran.last and chosen is not None and name not in chosen
        case MaxCountPerStep(max_count_limit=limit):
            return rule.tool_name == name and ran.counts.get(name, 0) >= limit
        case ExitLoop() | ContinueLoop() | RequiredBeforeExit() | RequiresApproval():
            return False


def _same_value(key: str, output: str) -> bool:
    key, output = key.strip().lower(), output.strip().lower()
    if key in ("true", "false"):
        return key == output
    try:
        return float(key) == float(output)
    except ValueError:
        return False
