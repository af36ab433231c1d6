"""[hooks.NAME]: commands that a takeover and a release run besides the programs, and what is said of them. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ha_agent.core.schema import REQUIRED, SettingsProblem, between, each, key, one_of
from ha_agent.core.words import Step

MOMENTS: Mapping[str, Step] = {
    "before_start": Step.BEFORE_START,
    "after_start": Step.AFTER_START,
    "before_stop": Step.BEFORE_STOP,
    "after_stop": Step.AFTER_STOP,
}
"""When a hook is run, as ``at`` says it, and the step of a plan that this is."""

AT_RELEASE = frozenset({Step.BEFORE_STOP, Step.AFTER_STOP})
"""These run in the reverse of the file's order, so that what was set up last is taken down first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HookSettings:
    """[hooks.NAME]: a command that a takeover or a release waits for; as many sections as there are commands."""

    at: tuple[str, ...] = key(
        REQUIRED,
        "When it is run: a list of before_start, after_start (a takeover), before_stop, after_stop (a release). Of several "
        "hooks those of a takeover run in the order of this file, those of a release in the reverse order.",
        each(lambda v: v in MOMENTS, " or ".join(f'"{m}"' for m in MOMENTS)),
    )
    command: tuple[str, ...] = key(
        REQUIRED,
        "The words of the command, absolute path first. It is run as root, and may be run again where it was done already "
        "or cut off half-way: it must bear that. Its environment has HA_AGENT_HOOK, which is the moment, and HA_AGENT_ROLE, "
        "_EPOCH, _GROUP, _NODE, _PEER and _REASON.",
    )
    timeout_s: float = key(
        30.0,
        "Seconds that it may take; then it is told to end (TERM), and killed after 2 more. They count as a failure.",
        between(0.1, 600.0, "s"),
    )
    on_failure: str = key(
        "stop",
        'What a failure means. "stop": at a takeover nothing more is done, and a standby that is fit is given the VIP; at a '
        "release the programs are stopped all the same, and after_stop is tried until it succeeds before the peer gets the "
        'word that nothing is left here. "continue": it is told, and the next step follows.',
        one_of("stop", "continue"),
    )
    check: bool = key(
        False,
        "true: the command understands --check, as its last word: it changes nothing and ends with 0 where it could do its "
        "work. doctor runs that.",
    )


def check_hook(where: str, hook: HookSettings) -> Iterator[SettingsProblem]:
    """What is wrong with the hook at ``where``, whose keys are right by themselves."""
    if not hook.command or not hook.command[0].startswith("/"):
        yield SettingsProblem(f"{where}.command", repr(list(hook.command)), "words of which the first is an absolute path")
    if not hook.at or len(set(hook.at)) < len(hook.at):
        yield SettingsProblem(f"{where}.at", repr(list(hook.at)), "each moment once, and one at least")


def hooks_at(hooks: Mapping[str, HookSettings], step: Step) -> list[tuple[str, HookSettings]]:
    """The hooks of one step by their names, in the order in which they are run."""
    moment = next(m for m, s in MOMENTS.items() if s is step)
    chosen = [(name, hook) for name, hook in hooks.items() if moment in hook.at]
    return chosen[::-1] if step in AT_RELEASE else chosen


def hooked_steps(hooks: Mapping[str, HookSettings]) -> frozenset[Step]:
    """The steps that plans have for the sake of ``hooks``."""
    return frozenset(MOMENTS[moment] for hook in hooks.values() for moment in hook.at)


def longest_s(hooks: Mapping[str, HookSettings], steps: Sequence[Step]) -> float:
    """How long the hooks of ``steps`` may take in all, in seconds."""
    return sum(hook.timeout_s for step in steps for _, hook in hooks_at(hooks, step))


@dataclass(frozen=True, slots=True)
class HookEnd:
    """How a run of a hook ended. ``code``: its exit status, None where it had none; ``why``: then the reason.

    ``last``: the last lines that it wrote.
    """

    code: int | None
    took_s: float
    why: str = ""
    last: tuple[str, ...] = ()

    @property
    def is_good(self) -> bool:
        """Whether it did its work."""
        return self.code == 0

    def describe(self) -> str:
        """What is wrong, in one line."""
        said = f": {self.last[-1]}" if self.last else ""
        return (self.why or f"ended with exit status {self.code}") + said
