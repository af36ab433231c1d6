"""Asks supervisord's own parser about confs: client of ``conf_check.py``, which it starts and ends as needed."""

from __future__ import annotations

import asyncio
import configparser
import contextlib
import json
import os
import signal
from collections.abc import Mapping, Sequence
from typing import Any

from ha_agent.adapters.supervisord import Supervisord, SupervisordDown, directory_of, environment_of, python_of, sockets_of
from ha_agent.core.confs import Program, Run, Verdict, as_lines, split_sections
from ha_agent.core.reasons import reason_of
from ha_agent.core.settings import SupervisorSettings

SCRIPT = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "conf_check.py")
LINE_LIMIT = 256 * 1024 * 1024
CHUNK = 200
"""Confs a request: bounds how long one request takes and how much it holds."""


class CheckerFailed(Exception):
    """The parser could not be asked at all (no interpreter with supervisor, or it died); the text says why."""


class ConfChecker:
    """Judges confs one request at a time. The parser process lives from the first question until ``close``.

    ``elsewhere``: the confs are for other machines: of users, directories, executables and ``%(ENV_x)s`` nothing is said.
    """

    def __init__(self, settings: SupervisorSettings, deadline_s: float = 120.0, *, elsewhere: bool = False) -> None:
        self._settings, self._elsewhere = settings, elsewhere
        self._deadline_s = deadline_s
        self._process: asyncio.subprocess.Process | None = None
        self._lock = asyncio.Lock()
        self.last_used_mono = 0.0

    @property
    def pid(self) -> int | None:
        """Process id of the parser, if it runs."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def judge(
        self, confs: Mapping[str, str], directories: Mapping[str, str], *, for_stranger: bool = False
    ) -> dict[str, Verdict]:
        """The verdicts on ``confs`` (path to text). Raises ``CheckerFailed``; the next call starts the parser again.

        ``for_stranger``: whoever asked may not learn what there is in directories that are not open to everybody; nothing
        is said of these.
        """
        verdicts: dict[str, Verdict] = {}
        paths = list(confs)
        async with self._lock:
            for start in range(0, len(paths), CHUNK):
                chunk = paths[start : start + CHUNK]
                request = {
                    "confs": {p: confs[p] for p in chunk},
                    "directories": {p: directories[p] for p in chunk},
                    "sections": {p: _sections_of(confs[p]) for p in chunk},
                    "environment": read_main_environment(self._settings.config),
                    "stranger": for_stranger,
                    "elsewhere": self._elsewhere,
                }
                answer = await self._ask(request)
                try:
                    verdicts.update([(p, _verdict(answer["verdicts"][p])) for p in chunk])
                except (KeyError, TypeError, ValueError, AttributeError) as error:
                    await self.close()
                    raise CheckerFailed(f"supervisord's parser answered something else: {reason_of(error)}") from None
        self.last_used_mono = asyncio.get_running_loop().time()
        return verdicts

    async def _ask(self, request: dict[str, Any]) -> dict[str, Any]:
        process = await self._running()
        if process.stdin is None or process.stdout is None:
            raise CheckerFailed("supervisord's parser was started without pipes")
        try:
            process.stdin.write(json.dumps(request).encode("ascii") + b"\n")
            await process.stdin.drain()
            async with asyncio.timeout(self._deadline_s):
                line = await process.stdout.readline()
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError(f"{type(answer).__name__} instead of an object")
        except TimeoutError:
            await self.close()
            raise CheckerFailed(f"supervisord's parser did not answer within {self._deadline_s:g} s") from None
        except (OSError, ValueError) as error:
            await self.close()
            # Python's words for JSON that is none are for programmers.
            why = error.strerror if isinstance(error, OSError) else "it ended, or wrote something that is no answer"
            raise CheckerFailed(f"supervisord's parser did not answer: {why}") from None
        if not isinstance(answer, dict):
            raise CheckerFailed("supervisord's parser gave no answer that can be understood")
        return answer

    async def _running(self) -> asyncio.subprocess.Process:
        if self._process is not None and self._process.returncode is None:
            return self._process
        python, environment, *about = await asyncio.to_thread(self._find_python)
        try:
            self._process = await asyncio.create_subprocess_exec(
                python,
                "-W",
                "ignore",
                SCRIPT,
                self._settings.config,
                *about,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                env=environment,
                limit=LINE_LIMIT,
                start_new_session=True,
            )
        except OSError as error:
            raise CheckerFailed(f"{python}: {error.strerror}") from None
        return self._process

    def _find_python(self) -> tuple[str, dict[str, str], str, str]:
        """The interpreter, the environment, the directory and the sockets of the supervisord that runs, or would run."""
        base = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
        python = self._settings.python
        try:
            pid = Supervisord(self._settings.socket, 2.0, self._settings.config).read_pid()
        except SupervisordDown:
            return ("/usr/bin/python3" if python == "auto" else python), base, "/", ""
        found = python_of(pid) or "/usr/bin/python3"
        return (found if python == "auto" else python), {**base, **environment_of(pid)}, directory_of(pid), sockets_of(pid)

    async def close(self) -> None:
        """Ends the parser process and its child. Idempotent."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


def read_main_environment(path: str) -> str:
    """``environment=`` of ``[supervisord]`` in the main conf ``path``, as it stands there; empty where there is none.

    supervisord puts it into ``%(ENV_x)s`` of all confs. It is read here because the parser has no right to: a main conf may
    hold passwords.
    """
    parser = configparser.RawConfigParser(inline_comment_prefixes=(";", "#"), strict=False)
    try:
        parser.read(path, encoding="utf-8")
        return parser.get("supervisord", "environment", fallback="")
    except (configparser.Error, OSError, ValueError):
        # supervisord itself says what is wrong with it.
        return ""


def _sections_of(text: str) -> list[str]:
    """The sections that the agent sees in a conf; the parser refuses it where supervisord would see others."""
    return [name for name, _ in split_sections(as_lines(text)) if name is not None]


def _run(raw: Sequence[Any]) -> Run:
    command, directory, search, uid = raw
    return Run(str(command), str(directory), tuple(search), uid)


def _verdict(raw: Mapping[str, Any]) -> Verdict:
    if raw["problem"] is not None:
        return Verdict(problem=str(raw["problem"]))
    programs = tuple(
        Program(p["name"], tuple(p["processes"]), bool(p["autostart"]), tuple(p["missing"]), tuple(map(_run, p["runs"])))
        for p in raw["programs"]
    )
    return Verdict(None, programs, {name: tuple(members) for name, members in raw["groups"].items()}, raw["priorities"])
