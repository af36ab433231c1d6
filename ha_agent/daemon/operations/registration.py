"""Putting a program into the registry from its own folder, and taking one out again, for ``supzcli``."""

from __future__ import annotations

import asyncio
import pwd
from typing import TYPE_CHECKING

from ha_agent.adapters.rpc import Handler, Progress
from ha_agent.adapters.supervisord import SupervisordDown
from ha_agent.core.frames import Message
from ha_agent.core.names import PARKED
from ha_agent.core.program_ini import LogRules, ProgramIniError, Registrant, registered_from, render_program
from ha_agent.core.targets import Catalogue, Conf
from ha_agent.daemon.operations.node import take
from ha_agent.daemon.operations.program_views import ProgramQueries, Refused, lint_remarks
from ha_agent.daemon.operations.programs import ProgramService, answering

if TYPE_CHECKING:
    from ha_agent.daemon.agent import Agent

MAX_INI_BYTES = 64 * 1024


class Registration:
    """Serves one agent's operators, under the lock of ``ProgramService``."""

    def __init__(self, agent: Agent, queries: ProgramQueries, programs: ProgramService) -> None:
        self._agent, self._queries = agent, queries
        self._programs = programs
        self.handlers: dict[str, Handler] = {
            "program-register": answering(programs, self._register),
            "program-deregister": answering(programs, self._deregister),
        }

    # ---- register -----------------------------------------------------------------------------------------

    async def _register(self, message: Message, _progress: Progress) -> Message:
        """Writes the conf of a folder's program and starts it; where the conf is there already, brings it up to date."""
        programs, by = self._programs, str(message.get("by", "?"))
        name, directory = take(message, "name", str), take(message, "directory", str)
        start, only_update = take(message, "start", bool, True), take(message, "update", bool, False)
        await self._queries.require_active()
        text = self._render(name, directory, message)
        catalogue = await self._queries.read_catalogue()
        path, present = self._find_place(name, directory, catalogue)
        if only_update and present is None:
            raise Refused(f"{name} is not registered; ./sup_run.sh start registers it")
        await self._queries.check_texts({path.removesuffix(PARKED): text}, "the registry is as it was")
        warnings = lint_remarks(path.removesuffix(PARKED), text)
        if present is None and not start:
            path += PARKED
        changed = self._read(path) != text
        if changed:
            await programs.editor.write(path, text, by)
        parked = path
        if start and path.endswith(PARKED):
            path = await programs.editor.unpark(path, by)
        acknowledging = asyncio.ensure_future(programs.editor.acknowledged({path, parked}))
        judging = asyncio.ensure_future(self._queries.ask_peer_about((), {path.removesuffix(PARKED): text}))
        fields: Message = {"results": []}
        if not path.endswith(PARKED):
            catalogue = await self._queries.read_catalogue()
            loaded = await programs.runs.choose(catalogue, [name])
            anew = [catalogue.group_of(name)] if changed and loaded else []
            if start or anew:
                fields = await programs.start_programs([name], (), [path], anew)
        fields["warnings"] = [*warnings, *await judging]
        what = {"path": path, "changed": changed, "unparked": path != parked, "was_registered": present is not None}
        return self._queries.describe(await acknowledging, **what, **fields)

    def _render(self, name: str, directory: str, message: Message) -> str:
        settings = self._agent.settings.programs
        text, owner = take(message, "text", str), take(message, "owner", str)
        if len(text) > MAX_INI_BYTES:
            raise Refused(f"program.ini is longer than {MAX_INI_BYTES} bytes")
        uid = take(message, "uid", int)
        registrant = Registrant(owner, None) if uid == 0 else self._ordinary(uid)
        try:
            logs = LogRules(settings.log_dir, settings.log_maxbytes, settings.log_backups)
            return render_program(name, directory, text, registrant, logs)
        except ProgramIniError as error:
            raise Refused("; ".join(f"{directory}/program.ini: {p}" for p in error.problems)) from None

    def _ordinary(self, uid: int) -> Registrant:
        try:
            own = pwd.getpwuid(uid).pw_name
        except KeyError:
            raise Refused(f"user {uid} has no name on this node: its programs could not be started as that user") from None
        return Registrant(own, frozenset({own, *self._agent.settings.programs.run_as}))

    def _find_place(self, name: str, directory: str, catalogue: Catalogue) -> tuple[str, Conf | None]:
        """The path of the program's conf, and the conf there is now. Raises ``Refused`` where that is not the folder's."""
        own = [c for c in catalogue.confs if name in c.programs]
        present = next((c for c in own if not c.is_parked), own[0] if own else None)
        if present is None:
            taken = [c for c in catalogue.confs if c.path in (f"{name}.conf", f"{name}.conf{PARKED}")]
            if taken:
                raise Refused(f"{taken[0].path} is there already and defines {', '.join(taken[0].programs) or 'no program'}")
            return f"{name}.conf", None
        origin = registered_from(self._read(present.path) or "")
        if origin is None:
            raise Refused(
                f"{name} is defined in {present.path}, which was written by hand: deregister it, or rename the folder"
            )
        if origin != directory:
            raise Refused(f"{name} is registered from {origin} already: deregister it first, or rename the folder")
        return present.path, present

    def _read(self, path: str) -> str | None:
        view = self._agent.view
        entry = view.manifest.find(path)
        content = view.read_content(path, entry.sha256) if entry else None
        return None if content is None else content.decode("utf-8", "surrogateescape")

    # ---- deregister ---------------------------------------------------------------------------------------

    async def _deregister(self, message: Message, _progress: Progress) -> Message:
        """Stops a program and removes its conf, parked or not; the conf is kept."""
        programs, by = self._programs, str(message.get("by", "?"))
        name, whole_file = take(message, "name", str), take(message, "file", bool, False)
        await self._queries.require_active()
        catalogue = await self._queries.read_catalogue()
        confs = [c for c in catalogue.confs if name in c.programs]
        if not confs:
            raise Refused(f"{name} is not registered: no conf of the registry defines it")
        if len(confs) > 1:
            raise Refused(f"{name} is defined in {' and '.join(c.path for c in confs)}: remove one of them")
        conf = confs[0]
        rest = sorted({*conf.programs, *(m for ms in conf.groups.values() for m in ms)} - {name})
        if rest and not whole_file:
            raise Refused(f"{conf.path} is the conf of {', '.join(rest)}, too; deregister --file {name} removes all of it")
        await programs.editor.remove(conf.path, by)
        acknowledging = asyncio.ensure_future(programs.editor.acknowledged([conf.path]))
        problem = await self._end(conf, catalogue)
        failed = {"outcome": "failed", "reason": f"{conf.path} is removed, but {problem}"} if problem else {}
        return self._queries.describe(await acknowledging, path=conf.path, **failed)

    async def _end(self, conf: Conf, catalogue: Catalogue) -> str | None:
        """Stops and unloads what ``conf`` defines; returns what went wrong."""
        runs = self._programs.runs
        try:
            stopped = await runs.stop(await runs.choose(catalogue, conf.programs))
            if stopped.left:
                return f"still running: {', '.join(stopped.left)}"
            selection = await self._agent.readiness.judge()
            await runs.unload({catalogue.group_of(p) for p in conf.programs} - set(selection.groups))
            self._agent.start_task(runs.reread())
        except SupervisordDown as error:
            return f"supervisord: {error}"
        return None
