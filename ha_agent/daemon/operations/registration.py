"""Putting a program into the registry from its own folder, and taking one out again, for ``supzcli``."""

from __future__ import annotations

import asyncio
import pwd
from collections.abc import Callable, Coroutine
from typing import Any

from ha_agent.adapters.supervisord import SupervisordDown
from ha_agent.core.answers import CommandAnswer
from ha_agent.core.names import PARKED
from ha_agent.core.program_ini import LogRules, ProgramIniError, Registrant, registered_from, render_program
from ha_agent.core.requests import DeregisterRequest, RegisterRequest
from ha_agent.core.settings import ProgramSettings
from ha_agent.core.targets import Catalogue, Conf
from ha_agent.core.words import Outcome, Refused
from ha_agent.daemon.operations.call import Call
from ha_agent.daemon.operations.commands import Commands
from ha_agent.daemon.operations.programs import ProgramCommands
from ha_agent.daemon.programs.catalogue import CatalogueReader
from ha_agent.daemon.programs.judgement import Judgement
from ha_agent.daemon.programs.readiness import Readiness
from ha_agent.daemon.programs.runs import ProgramRuns
from ha_agent.daemon.replication.editor import RegistryEditor

MAX_INI_BYTES = 64 * 1024


def _by_root(request: RegisterRequest) -> Registrant:
    """Who registers where root asks: a file that another user could have written has no more rights than that user.

    Raises ``Refused`` where it is not even clear who wrote it.
    """
    if request.user:
        return Registrant(request.user, frozenset({request.user}), is_root=True)
    if request.writers:
        raise Refused(
            f"{request.directory}/program.ini may have been written by {request.writers}: "
            f"read it, and say --user NAME if it is right, or let nobody but {request.owner} write it"
        )
    if request.owner == "root":
        return Registrant("root", None, is_root=True)
    return Registrant(request.owner, frozenset({request.owner}), is_root=False)


class Registration:
    """For one group. ``start_task`` has a coroutine done beside the command."""

    def __init__(
        self,
        settings: ProgramSettings,
        commands: Commands,
        programs: ProgramCommands,
        catalogue: CatalogueReader,
        judgement: Judgement,
        readiness: Readiness,
        runs: ProgramRuns,
        editor: RegistryEditor,
        start_task: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self._settings, self._commands, self._programs = settings, commands, programs
        self._catalogue, self._judgement, self._readiness = catalogue, judgement, readiness
        self._runs, self._editor, self._start_task = runs, editor, start_task

    # ---- register -----------------------------------------------------------------------------------------

    async def register(self, request: RegisterRequest, call: Call) -> CommandAnswer:
        """Writes the conf of a folder's program and starts it; where the conf is there already, brings it up to date."""
        return await self._commands.run(lambda: self._register(request, call))

    async def _register(self, request: RegisterRequest, call: Call) -> CommandAnswer:
        name, by = request.name, call.by
        await self._commands.require_active()
        text = self._render(request, call)
        catalogue = await self._catalogue.read()
        path, present = self._find_place(name, request.directory, catalogue)
        if request.update and present is None:
            raise Refused(f"{name} is not registered; ./sup_run.sh start registers it")
        own_name = path.removesuffix(PARKED)
        await self._judgement.require_loadable({own_name: text}, "the registry is as it was")
        if present is None:
            await self._judgement.require_free_at_peer({own_name: text})
        warnings = self._judgement.remarks_on(own_name, text)
        if present is None and not request.start:
            path += PARKED
        changed = self._judgement.read_text(path) != text
        if changed:
            await self._editor.write(path, text, by)
        parked = path
        if request.start and path.endswith(PARKED):
            path = await self._editor.unpark(path, by)
        acknowledging = asyncio.ensure_future(self._editor.acknowledged({path, parked}))
        judging = asyncio.ensure_future(self._judgement.ask_peer((), {own_name: text}))
        fields: CommandAnswer = {"results": []}
        if not path.endswith(PARKED):
            fields = await self._start(name, path, changed=changed, start=request.start)
        fields["warnings"] = [*warnings, *await judging]
        what = {"path": path, "changed": changed, "unparked": path != parked, "was_registered": present is not None}
        return self._commands.answer(await acknowledging, **what, **fields)

    async def _start(self, name: str, path: str, *, changed: bool, start: bool) -> CommandAnswer:
        """Starts what is registered by now; what is loaded with an older conf is loaded again."""
        catalogue = await self._catalogue.read()
        loaded = await self._runs.choose(catalogue, [name])
        again = [catalogue.group_of(name)] if changed and loaded else []
        if not start and not again:
            return {"results": []}
        return await self._programs.start_programs([name], (), [path], again)

    def _render(self, request: RegisterRequest, call: Call) -> str:
        if len(request.text) > MAX_INI_BYTES:
            raise Refused(f"program.ini is longer than {MAX_INI_BYTES} bytes")
        if call.uid is None:
            raise Refused("a program is registered on the node where its folder is")
        registrant = _by_root(request) if call.uid == 0 else self._ordinary(call.uid)
        try:
            logs = LogRules(self._settings.log_dir, self._settings.log_maxbytes, self._settings.log_backups)
            return render_program(request.name, request.directory, request.text, registrant, logs)
        except ProgramIniError as error:
            hint = ""
            if call.uid == 0 and not registrant.is_root:
                hint = f". {request.owner} wrote it; if it is right: --user NAME takes it as root's own, to run as NAME"
            raise Refused("; ".join(f"{request.directory}/program.ini: {p}" for p in error.problems) + hint) from None

    def _ordinary(self, uid: int) -> Registrant:
        try:
            own = pwd.getpwuid(uid).pw_name
        except KeyError:
            raise Refused(f"user {uid} has no name on this node: its programs could not be started as that user") from None
        return Registrant(own, frozenset({own, *self._settings.run_as}), is_root=False)

    def _find_place(self, name: str, directory: str, catalogue: Catalogue) -> tuple[str, Conf | None]:
        """The path of the program's conf, and the conf there is now. Raises ``Refused`` where that is not the folder's."""
        own = [c for c in catalogue.confs if name in c.programs]
        present = next((c for c in own if not c.is_parked), own[0] if own else None)
        if present is None:
            taken = [c for c in catalogue.confs if c.path in (f"{name}.conf", f"{name}.conf{PARKED}")]
            if taken:
                raise Refused(f"{taken[0].path} is there already and defines {', '.join(taken[0].programs) or 'no program'}")
            return f"{name}.conf", None
        origin = registered_from(self._judgement.read_text(present.path) or "")
        if origin is None:
            raise Refused(
                f"{name} is defined in {present.path}, which was written by hand: deregister it, or rename the folder"
            )
        if origin != directory:
            raise Refused(f"{name} is registered from {origin} already: deregister it first, or rename the folder")
        return present.path, present

    # ---- deregister ---------------------------------------------------------------------------------------

    async def deregister(self, request: DeregisterRequest, call: Call) -> CommandAnswer:
        """Stops a program and removes its conf, parked or not; the conf is kept."""
        return await self._commands.run(lambda: self._deregister(request, call.by))

    async def _deregister(self, request: DeregisterRequest, by: str) -> CommandAnswer:
        name = request.name
        await self._commands.require_active()
        catalogue = await self._catalogue.read()
        conf = _find_only(name, catalogue)
        rest = sorted({*conf.programs, *(m for ms in conf.groups.values() for m in ms)} - {name})
        if rest and not request.file:
            raise Refused(f"{conf.path} is the conf of {', '.join(rest)}, too; deregister --file {name} removes all of it")
        await self._editor.remove(conf.path, by)
        acknowledging = asyncio.ensure_future(self._editor.acknowledged([conf.path]))
        problem = await self._end(conf, catalogue)
        ack = await acknowledging
        if problem is None:
            return self._commands.answer(ack, path=conf.path)
        reason = f"{conf.path} is removed, but {problem}"
        return self._commands.answer(ack, path=conf.path, outcome=Outcome.FAILED, reason=reason)

    async def _end(self, conf: Conf, catalogue: Catalogue) -> str | None:
        """Stops and unloads what ``conf`` defines; returns what went wrong."""
        try:
            stopped = await self._runs.stop(await self._runs.choose(catalogue, conf.programs))
            if stopped.left:
                return f"still running: {', '.join(stopped.left)}"
            selection = await self._readiness.judge()
            await self._runs.unload({catalogue.group_of(p) for p in conf.programs} - set(selection.groups))
            self._start_task(self._runs.reread())
        except SupervisordDown as error:
            return f"supervisord: {error}"
        return None


def _find_only(name: str, catalogue: Catalogue) -> Conf:
    """The one conf that defines ``name``. Raises ``Refused``."""
    confs = [c for c in catalogue.confs if name in c.programs]
    if not confs:
        raise Refused(f"{name} is not registered: no conf of the registry defines it")
    if len(confs) > 1:
        raise Refused(f"{name} is defined in {' and '.join(c.path for c in confs)}: remove one of them")
    return confs[0]
