"""Which groups of the registry wait for what when a takeover starts them, made of what the confs say. Pure.

What waits is a group as supervisord loads it: a program outside any ``[group:]`` is one of its own. A member that waits
has its whole group wait, because supervisord starts the members of a group together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ha_agent.core.order_keys import TIMEOUTS, Address, OrderKeys, is_address, parse_address

Process = tuple[str, str]
STRICTNESS = tuple(TIMEOUTS)


@dataclass(frozen=True, slots=True)
class Need:
    """One thing that a group waits for. ``word``: as it stands in the conf.

    A program: ``group`` is its own one, ``processes`` are those that must be up. Else ``address``.
    """

    word: str
    limit_s: float
    on_timeout: str
    group: str | None = None
    processes: frozenset[Process] = frozenset()
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class StartPlan:
    """By group what it waits for; a group that is not there waits for nothing.

    ``ignored``: what a conf says and nothing waits for, by group and word, with the reason.
    """

    needs: Mapping[str, tuple[Need, ...]] = field(default_factory=dict)
    ignored: Mapping[tuple[str, str], str] = field(default_factory=dict)

    @property
    def held(self) -> frozenset[str]:
        """The groups that are not started with the others."""
        return frozenset(self.needs)

    def find_users(self, groups: Collection[str]) -> frozenset[str]:
        """The groups that wait for one of ``groups``: they are stopped before it."""
        return frozenset(user for user, needs in self.needs.items() if any(need.group in groups for need in needs))


@dataclass(frozen=True, slots=True)
class Known:
    """What there is to wait for. ``groups``: their programs by name; ``processes``: by program, those that it has.

    ``not_started``: programs that a takeover does not start.
    """

    groups: Mapping[str, tuple[str, ...]]
    processes: Mapping[str, tuple[str, ...]]
    not_started: frozenset[str] = frozenset()


NOBODY = StartPlan()
"""The plan where no conf says anything of an order."""


def plan_start(keys: Mapping[str, OrderKeys], known: Known, limit_s: float, on_timeout: str) -> StartPlan:
    """The plan. ``keys``: what each section says, by its name; ``limit_s`` and ``on_timeout`` where it does not say that.

    Nothing that cannot come is waited for: a name that is not there (parked, removed, not loadable here), a program that no
    takeover starts, and a wait that goes round in a circle, of which none is waited for.
    """
    if not keys:
        return NOBODY
    owner = {program: group for group, members in known.groups.items() for program in members}
    found: dict[str, dict[str, Need]] = {}
    ignored: dict[tuple[str, str], str] = {}
    for section, said in sorted(keys.items()):
        kind, _, name = section.partition(":")
        group = name.strip() if kind == "group" else owner.get(name.strip())
        if group is None or group not in known.groups or _is_idle(known.groups[group], known):
            continue
        for word in said.after:
            need = _find_need(word, known, owner, said.limit_s or limit_s, said.on_timeout or on_timeout)
            if isinstance(need, str):
                ignored[group, word] = need
            else:
                mine = found.setdefault(group, {})
                mine[word] = _stricter(mine[word], need) if word in mine else need
    return _without_circles({group: tuple(needs.values()) for group, needs in found.items()}, ignored)


def _is_idle(members: Iterable[str], known: Known) -> bool:
    return all(program in known.not_started for program in members)


def _stricter(one: Need, other: Need) -> Need:
    """Of two members that wait for the same: the longer time, and the stricter answer."""
    on_timeout = max(one.on_timeout, other.on_timeout, key=STRICTNESS.index)
    return Need(one.word, max(one.limit_s, other.limit_s), on_timeout, one.group, one.processes, one.address)


def _find_need(word: str, known: Known, owner: Mapping[str, str], limit_s: float, on_timeout: str) -> Need | str:
    """What a word means; a text where nothing can be waited for."""
    if is_address(word):
        return Need(word, limit_s, on_timeout, address=parse_address(word))
    group = owner.get(word) or (word if word in known.groups else None)
    if group is None:
        return "it is not there: parked, removed, or not loadable here"
    programs = [p for p in ([word] if word in owner else known.groups[group]) if p not in known.not_started]
    if not programs:
        return "a takeover does not start it (autostart=false)"
    processes = frozenset((group, process) for program in programs for process in known.processes.get(program, (program,)))
    return Need(word, limit_s, on_timeout, group, processes)


def _without_circles(needs: Mapping[str, tuple[Need, ...]], ignored: dict[tuple[str, str], str]) -> StartPlan:
    """The plan without the waits by which a group would wait for itself."""
    circle_of = {group: circle for circle in find_circles(edges_of(needs)) for group in circle}
    kept: dict[str, tuple[Need, ...]] = {}
    for group, mine in needs.items():
        circle = circle_of.get(group, frozenset())
        for need in mine:
            if need.group in circle:
                ignored[group, need.word] = f"a circle: {', '.join(sorted(circle))} would wait for each other"
        if rest := tuple(need for need in mine if need.group not in circle):
            kept[group] = rest
    return StartPlan(kept, ignored)


def edges_of(needs: Mapping[str, tuple[Need, ...]]) -> dict[str, frozenset[str]]:
    """By group the groups that it waits for."""
    return {group: frozenset(need.group for need in mine if need.group is not None) for group, mine in needs.items()}


def find_circles(edges: Mapping[str, frozenset[str]]) -> list[frozenset[str]]:
    """The sets of names that wait for each other, and those that wait for themselves, by their smallest name.

    Two names are in one set where each can be reached from the other one. Takes time in proportion to the edges (Tarjan's
    algorithm), without recursion: a chain may be as long as there are confs.
    """
    numbers: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[frozenset[str]] = []
    for start in sorted(edges):
        if start in numbers:
            continue
        work = [(start, iter(sorted(edges.get(start, ()))))]
        numbers[start] = low[start] = len(numbers)
        stack.append(start)
        on_stack.add(start)
        while work:
            name, following = work[-1]
            child = next(following, None)
            if child is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[name])
                if low[name] == numbers[name]:
                    found.append(_pop_set(name, stack, on_stack))
            elif child not in numbers:
                numbers[child] = low[child] = len(numbers)
                stack.append(child)
                on_stack.add(child)
                work.append((child, iter(sorted(edges.get(child, ())))))
            elif child in on_stack:
                low[name] = min(low[name], numbers[child])
    return sorted((c for c in found if len(c) > 1 or c & edges.get(min(c), frozenset())), key=min)


def _pop_set(name: str, stack: list[str], on_stack: set[str]) -> frozenset[str]:
    members = set()
    while True:
        member = stack.pop()
        on_stack.discard(member)
        members.add(member)
        if member == name:
            return frozenset(members)
