"""The rule table: from a role and one frozen set of facts to the next role, with the reason in English.

``decide`` is the only place that chooses a role. It is level-triggered: it looks at what is true now, so an event
that was lost, doubled or late changes when it is asked and never what it answers. The first row that applies counts;
where none applies the role stays. ``make docs`` writes the table and its drawing into ``docs/architecture.md``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from ha_agent.core.words import Action, Role, VrrpState


class Cause(Enum):
    """Why a node gives up MASTER to its peer for now; the values are the codes of the rules."""

    REFUSED = "interlock-refused"
    """The peer is active and stays so, or keepalived has to say anew what it is: not a choice of this node."""
    SWITCHOVER = "hand-over"
    CHECK = "check-hand-over"
    HOOK = "hook-failed"
    WAIT = "wait-failed"


_CAUSES = {
    Cause.REFUSED: "the peer is active and stays so: it is MASTER itself, or in maintenance",
    Cause.SWITCHOVER: "an operator asked for a switchover",
    Cause.CHECK: "a health check fails here, and the peer is fit to take over",
    Cause.HOOK: "a hook failed here, and the peer is fit to take over",
    Cause.WAIT: "a program did not come that another one waits for, and the peer is fit",
}


@dataclass(frozen=True, slots=True)
class Facts:
    """All inputs of a decision, gathered at one moment.

    ``vip_here`` is None where it could not be found out. ``plan_done`` speaks of the takeover or release under way: None
    while it runs or where there is none, else whether it reached its end. ``left_running`` counts processes of the
    registry that could not be ended, or that were found on a standby. ``superseded`` means that the peer owns a newer
    epoch. ``gives_way``: why this node has MASTER given up here; None where it does not.
    ``supervisord_replaced``: the supervisord that the programs were loaded into has ended; ``supervisord_gone``: there has
    been none for longer than one may be missing. ``vrrp_asked``: no report of keepalived is there and it is being asked,
    which takes a moment. ``stays_standby``: an operator ordered that. ``votes_left_s``: seconds until all that runs on this
    node's votes must be killed; None where nothing does.
    """

    now_mono: float
    vrrp_state: VrrpState
    keepalived_alive: bool
    vip_here: bool | None
    superseded: bool = False
    gives_way: Cause | None = None
    plan_done: bool | None = None
    left_running: int = 0
    retry_due: bool = False
    supervisord_replaced: bool = False
    supervisord_gone: bool = False
    vrrp_asked: bool = False
    stays_standby: bool = False
    votes_left_s: float | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One row: in ``role``, when ``applies``, go to ``to`` and do ``action``, because of ``reason``."""

    role: Role
    code: str
    applies: Callable[[Facts], bool]
    to: Role
    action: Action
    reason: str


def has_right(facts: Facts) -> bool:
    """Whether this node may be active: keepalived lives and says MASTER, the VIP and supervisord are here, nobody newer
    owns the pair, and the votes that it uses last. A takeover gets them before anything is started."""
    return (
        facts.vrrp_state is VrrpState.MASTER
        and facts.keepalived_alive
        and facts.vip_here is not False
        and not facts.superseded
        and facts.gives_way is None
        and not facts.stays_standby
        and not facts.supervisord_gone
        and not _votes_over(facts)
    )


def _left_master(facts: Facts) -> bool:
    """While keepalived is asked, nothing says that it has left MASTER: a node that is active waits for the answer."""
    if facts.vrrp_state is VrrpState.UNKNOWN and facts.vrrp_asked:
        return False
    return facts.vrrp_state is not VrrpState.MASTER


def _votes_over(facts: Facts) -> bool:
    return facts.votes_left_s is not None and facts.votes_left_s <= 0


def _keepalived_gone(facts: Facts) -> bool:
    return not facts.keepalived_alive


def _vip_gone(facts: Facts) -> bool:
    return facts.vip_here is False


def _given_way_for(cause: Cause) -> Callable[[Facts], bool]:
    return lambda facts: facts.gives_way is cause


_LOSSES: tuple[tuple[str, Callable[[Facts], bool], str], ...] = (
    ("votes-lost", _votes_over, "this node's votes end: neither the peer nor the witness has renewed them"),
    ("superseded", lambda f: f.superseded, "the peer has taken over with a newer epoch"),
    *((cause.value, _given_way_for(cause), why) for cause, why in _CAUSES.items()),
    ("stays-standby", lambda f: f.stays_standby, "an operator ordered this node to stay standby"),
    ("keepalived-down", _keepalived_gone, "keepalived is not running, so nothing says that this node may be active"),
    ("vrrp-left-master", _left_master, "keepalived no longer reports MASTER"),
    ("vip-lost", _vip_gone, "keepalived reports MASTER but the VIP is not on this node"),
    ("supervisord-down", lambda f: f.supervisord_gone, "supervisord is gone and did not come back"),
)


def _loss_rules(role: Role) -> tuple[Rule, ...]:
    return tuple(Rule(role, code, applies, Role.RELEASING, Action.RELEASE, why) for code, applies, why in _LOSSES)


RULES: tuple[Rule, ...] = (
    Rule(
        Role.STANDBY,
        "registry-runs",
        lambda f: f.left_running > 0,
        Role.RELEASING,
        Action.RELEASE,
        "something of the registry runs on this standby",
    ),
    Rule(
        Role.STANDBY,
        "vrrp-master",
        has_right,
        Role.TAKING_OVER,
        Action.TAKE_OVER,
        "keepalived reports MASTER and the VIP is here",
    ),
    *_loss_rules(Role.TAKING_OVER),
    Rule(
        Role.TAKING_OVER,
        "takeover-done",
        lambda f: f.plan_done is True,
        Role.ACTIVE,
        Action.NOTHING,
        "every loadable conf is loaded and its programs were started",
    ),
    Rule(
        Role.TAKING_OVER,
        "takeover-retry",
        lambda f: f.plan_done is False and f.retry_due,
        Role.TAKING_OVER,
        Action.TAKE_OVER,
        "the takeover could not be finished and is tried again",
    ),
    *_loss_rules(Role.ACTIVE),
    Rule(
        Role.ACTIVE,
        "supervisord-replaced",
        lambda f: f.supervisord_replaced,
        Role.TAKING_OVER,
        Action.TAKE_OVER,
        "supervisord ended: what it left is ended before everything is started again",
    ),
    Rule(
        Role.RELEASING,
        "released",
        lambda f: f.plan_done is True and f.left_running == 0,
        Role.STANDBY,
        Action.NOTHING,
        "nothing of the registry is running here, verified by looking at processes",
    ),
    Rule(
        Role.RELEASING,
        "fenced",
        lambda f: f.plan_done is True and f.left_running > 0,
        Role.FENCED,
        Action.NOTHING,
        "processes of the registry could not be ended",
    ),
    Rule(
        Role.RELEASING,
        "release-retry",
        lambda f: f.plan_done is False and f.retry_due,
        Role.RELEASING,
        Action.RELEASE,
        "the release could not be finished and is tried again",
    ),
    Rule(
        Role.FENCED,
        "fenced-retry",
        lambda f: f.retry_due,
        Role.RELEASING,
        Action.RELEASE,
        "what could not be ended is tried again",
    ),
)


@dataclass(frozen=True, slots=True)
class Decision:
    """The next role, what to do for it, and why."""

    role: Role
    action: Action
    code: str
    reason: str


def decide(role: Role, facts: Facts) -> Decision | None:
    """The first rule of ``role`` that applies to ``facts``, as a decision; None where the role stays as it is."""
    for rule in RULES:
        if rule.role is role and rule.applies(facts):
            return Decision(rule.to, rule.action, rule.code, rule.reason)
    return None


def rules_as_markdown() -> str:
    """The table as it stands in the documentation."""
    lines = ["| role | code | next role | action | reason |", "| --- | --- | --- | --- | --- |"]
    for rule in RULES:
        row = (rule.role.value, rule.code, rule.to.value, rule.action.value, rule.reason)
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines) + "\n"


def roles_as_mermaid() -> str:
    """The roles as a Mermaid state diagram: one arrow from role to role, labelled with the codes of all its rules.

    A code a line, because a renderer does not wrap a label. The first role is that of a node that has just booted.
    """
    arrows: dict[tuple[Role, Role], list[str]] = {}
    for rule in RULES:
        arrows.setdefault((rule.role, rule.to), []).append(rule.code)
    lines = ["stateDiagram-v2", f"    [*] --> {Role.STANDBY.value}"]
    lines += [f"    {start.value} --> {end.value} : {'<br/>'.join(codes)}" for (start, end), codes in arrows.items()]
    return "\n".join(lines) + "\n"
