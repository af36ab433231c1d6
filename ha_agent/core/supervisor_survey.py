"""Whether a node's supervisord is one that ha-agent can work with, from what was seen of it. Pure.

Asked before anything is written: each answer is a sentence that says what is in the way and what to do about it.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import dataclass

from ha_agent.core.host_profile import Profile
from ha_agent.core.main_conf import Door

OTHERS_STAY = "--leave-supervisords"


@dataclass(frozen=True, slots=True)
class Running:
    """A supervisord that runs. ``main_conf``: that of its command line or of where it looks, empty where neither tells.

    ``unit``: the systemd service that holds it, empty where none does.
    """

    pid: int
    uid: int
    main_conf: str
    unit: str


@dataclass(frozen=True, slots=True)
class Survey:
    """One look at a node. ``answering``: process id of the supervisord that answered through ``door``; None where none did.

    ``silence``: how it did not answer.
    """

    profile: Profile
    main_conf: str
    has_main_conf: bool
    door: Door
    running: tuple[Running, ...] = ()
    answering: int | None = None
    silence: str = ""
    has_confs: bool = False


def main_conf_in(words: Sequence[str]) -> str | None:
    """The main conf that a command line of supervisord names; None where it names none."""
    for index, word in enumerate(words):
        if word in ("-c", "--configuration"):
            return words[index + 1] if index + 1 < len(words) else None
        if word.startswith("--configuration="):
            return word.partition("=")[2]
        if word.startswith("-c") and not word.startswith("--") and len(word) > 2:
            return word[2:]
    return None


def is_supervisord_line(words: Sequence[str]) -> bool:
    """Whether a command line is supervisord's: itself, or an interpreter that was given its script or module."""
    if not words:
        return False
    first = posixpath.basename(words[0])
    if first == "supervisord":
        return True
    if not first.startswith("python"):
        return False
    rest = list(words[1:])
    while rest and rest[0].startswith("-") and rest[0] != "-m":
        rest = rest[2:] if rest[0] in ("-W", "-X") else rest[1:]
    if rest[:1] == ["-m"]:
        return rest[1:2] in (["supervisor.supervisord"], ["supervisor"])
    return bool(rest) and posixpath.basename(rest[0]) == "supervisord"


def find_obstacles(survey: Survey, *, leave_others: bool) -> list[str]:
    """What keeps ha-agent from working with this supervisord; empty where nothing does."""
    profile = survey.profile
    if not survey.has_main_conf:
        return [f"{survey.main_conf} is missing: is supervisor installed? ({profile.install})"]
    problems = list(_about_door(survey))
    ours = next((one for one in survey.running if one.pid == survey.answering), None)
    if not problems and survey.answering is None:
        problems += _about_silence(survey)
    if ours is not None:
        problems += _about_process(ours)
    others = [one for one in survey.running if one.pid != survey.answering]
    if ours is not None and others and not leave_others:
        said = ", ".join(f"pid {one.pid} with {one.main_conf or 'an unknown main conf'}" for one in others)
        problems.append(
            f"more than one supervisord runs here ({said} beside pid {ours.pid} with {survey.main_conf}): the pair moves "
            f"the programs of one, those of the others run on wherever they run; {OTHERS_STAY} if that is meant"
        )
    return problems


def _about_door(survey: Survey) -> list[str]:
    door, path = survey.door, survey.main_conf
    if not door.socket:
        only = f", only [inet_http_server] port={door.port}" if door.port else ""
        return [
            f"{path} has no [unix_http_server]{only}, and the agent asks through the socket alone: add [unix_http_server] "
            "with file=/run/supervisor.sock and chmod=0700, restart supervisord at a time that suits, and again"
        ]
    if "%(" in door.socket + door.username + door.password:
        return [f"[unix_http_server] of {path} has %(...)s expansions, which are not read here: write the values themselves"]
    if door.has_hash:
        return [
            f"[unix_http_server] of {path} has its password as a digest, which cannot be sent: write the password itself "
            "(the file is root's alone to read), restart supervisord at a time that suits, and again"
        ]
    return []


def _about_silence(survey: Survey) -> list[str]:
    if survey.running:
        one = survey.running[0]
        return [
            f"supervisord runs (pid {one.pid}) and does not answer as {survey.main_conf} says ({survey.silence}): nobody "
            f"can tell what it has loaded; it was started with {one.main_conf or 'an unknown main conf'}"
        ]
    if survey.has_confs:
        return [
            f"supervisord does not run ({survey.silence}), and there are confs: start it, so that it can be seen which of "
            f"them run (systemctl start {survey.profile.unit})"
        ]
    return []


def _about_process(one: Running) -> list[str]:
    if one.uid != 0:
        return [
            f"supervisord (pid {one.pid}) runs as user {one.uid}, and the agent knows one that is root's alone: run it as "
            "root with user= in each program"
        ]
    if not one.unit:
        return [
            f"supervisord (pid {one.pid}) is in no systemd service: nothing starts it again, or ends what it leaves; give "
            "it a unit called supervisord.service, start it by that, and again"
        ]
    if "supervisor" not in one.unit:
        return [
            f"supervisord (pid {one.pid}) runs in {one.unit}.service, where other things may run, too: give it a unit "
            "called supervisord.service, start it by that, and again"
        ]
    return []
