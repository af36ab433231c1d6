"""Judging texts before they are written: here, and by the peer, whose silence is a warning and never a refusal."""

from __future__ import annotations

import pathlib

import pytest

from ha_agent.adapters.rpc import Disconnected, RemoteError
from ha_agent.core.frames import Message
from ha_agent.core.words import Refused
from ha_agent.daemon.programs.judgement import Judgement
from tests.unit.fakes_programs import MemoryChecker
from tests.unit.fakes_replication import PairNode, ScriptedLink
from tests.unit.timeless import run_timeless

FINE = {"problem": None, "programs": [{"name": "web", "missing": []}]}
LACKS = {"problem": None, "programs": [{"name": "web", "missing": ["no /bin/web"]}]}
BAD = {"problem": "it is bad", "programs": []}


class Judge:
    """Node ``alfa``, whose peer answers ``reply``."""

    def __init__(self, root: pathlib.Path, reply: Message | Exception) -> None:
        self.node, self.checker, self.link = PairNode(root, "alfa", "bravo"), MemoryChecker(), ScriptedLink(lambda _: reply)
        self.local: frozenset[str] = frozenset()
        view, registry = self.node.view, str(self.node.registry_dir)
        self.judgement = Judgement(registry, "bravo", view, self.checker, self.link, lambda: self.local)


@pytest.mark.parametrize(
    ("text", "failure", "refused"),
    [
        ("web", None, None),
        ("bad", None, "a.conf cannot be loaded here: it is bad; nothing was written"),
        ("web lacks no /bin/web", None, "web: no /bin/web; nothing was written"),
        ("web", "it died", "confs cannot be checked: it died; nothing was written"),
    ],
)
def test_what_could_not_be_loaded_here_is_refused(
    tmp_path: pathlib.Path, text: str, failure: str | None, refused: str | None
) -> None:
    async def main() -> None:
        judge = Judge(tmp_path, {})
        judge.checker.failure = failure
        await judge.judgement.require_loadable({}, "never said")
        if refused is None:
            await judge.judgement.require_loadable({"a.conf": text}, "nothing was written")
            return
        with pytest.raises(Refused) as caught:
            await judge.judgement.require_loadable({"a.conf": text}, "nothing was written")
        assert str(caught.value) == refused

    run_timeless(main())


@pytest.mark.parametrize(
    ("reply", "warnings"),
    [
        ({"verdicts": {"a.conf": FINE}}, []),
        ({"verdicts": {"a.conf": BAD}}, ["bravo could not load a.conf: it is bad"]),
        ({"verdicts": {"a.conf": LACKS}}, ["bravo could not run web: no /bin/web"]),
        ({"failure": "it died"}, ["bravo could not check this: it died"]),
        ({}, []),
        (TimeoutError(), ["bravo could not be asked whether it could run this: no answer"]),
        (Disconnected("broken"), ["bravo could not be asked whether it could run this: broken"]),
        (RemoteError("no"), ["bravo could not be asked whether it could run this: no"]),
    ],
)
def test_what_the_peer_says_is_a_warning(tmp_path: pathlib.Path, reply: Message | Exception, warnings: list[str]) -> None:
    async def main() -> None:
        assert await Judge(tmp_path, reply).judgement.ask_peer([], {"a.conf": "web"}) == warnings

    run_timeless(main())


def test_a_name_of_a_local_program_is_refused_here_and_at_the_peer(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        judge = Judge(tmp_path, {"verdicts": {"a.conf": {**BAD, "taken": ["web"]}}})
        await judge.judgement.require_loadable({"a.conf": "web"}, "nothing was written")
        judge.local = frozenset({"web"})
        with pytest.raises(Refused, match=r"a\.conf cannot be loaded here: web is the name of a local program"):
            await judge.judgement.require_loadable({"a.conf": "web"}, "nothing was written")
        with pytest.raises(Refused, match=r"a\.conf could not be loaded at bravo: it is bad; the registry is as it was"):
            await judge.judgement.require_free_at_peer({"a.conf": "web"})
        judge.link.is_up = False
        await judge.judgement.require_free_at_peer({"a.conf": "web"})

    run_timeless(main())


@pytest.mark.parametrize(
    "reply", [{"verdicts": {"a.conf": BAD}}, {"failure": "it died"}, {}, TimeoutError(), Disconnected("x")]
)
def test_nothing_else_that_the_peer_says_keeps_a_registration_back(
    tmp_path: pathlib.Path, reply: Message | Exception
) -> None:
    async def main() -> None:
        await Judge(tmp_path, reply).judgement.require_free_at_peer({"a.conf": "web"})

    run_timeless(main())


def test_the_peer_is_asked_of_a_parked_conf_under_its_own_name_and_not_at_all_of_nothing(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        judge = Judge(tmp_path, {"verdicts": {}})
        judge.node.edit({"a.conf.parked": b"web"}, hint=False)
        await judge.node.view.compare()
        assert await judge.judgement.ask_peer(["gone.conf"]) == []
        await judge.judgement.ask_peer(["a.conf.parked", "gone.conf"])
        assert judge.link.asked == [{"op": "judge", "confs": {"a.conf": "web"}}]
        judge.link.is_up = False
        assert await judge.judgement.ask_peer(["a.conf.parked"]) == [] and len(judge.link.asked) == 1

    run_timeless(main())


def test_a_remark_names_the_conf_and_the_remedy_and_reads_no_file(tmp_path: pathlib.Path) -> None:
    """The agent is root: what it says of a file that a conf names would tell others of the file."""

    async def main() -> None:
        judgement = Judge(tmp_path, {"verdicts": {}}).judgement
        wanted = "a.conf: [program:a] has no command; add: command=/path/to/program"
        assert judgement.remarks_on("a.conf", "[program:a]\n") == [wanted]
        assert judgement.remarks_on("a.conf", "") == []
        assert judgement.remarks_on("a.conf", "[program:a]\ncommand=/x\nautostart=false\n") == [], "a note is no remark"
        (tmp_path / "run.sh").write_text("exec java\n")
        (remark,) = judgement.remarks_on("a.conf", f"[program:a]\ncommand={tmp_path}/run.sh\n")
        assert "run.sh runs the program: unless it hands over with exec" in remark

    run_timeless(main())
