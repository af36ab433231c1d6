"""The registry as it was at another time: what is known of it, what is done, and what of it nobody has any more."""

from __future__ import annotations

import base64
import hashlib
import pathlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.kept import Kept, write_kept
from ha_agent.adapters.registry_log import RegistryLog, find_agreed
from ha_agent.adapters.rpc import Disconnected
from ha_agent.core.manifest import Entry, Manifest
from ha_agent.core.requests import RegistryAtRequest, RestoreAtRequest
from ha_agent.core.restore_plan import plan_restore
from ha_agent.core.words import Outcome, Role
from tests.unit.fakes_operations import Node, on_node, operator, program_conf

ROOT = operator("root", 0)

# ---- the record -------------------------------------------------------------------------------------------------

PATHS = st.sampled_from(["a.conf", "b.conf", "c.conf.parked", "d/e.ini"])
MANIFESTS = st.dictionaries(PATHS, st.sampled_from("0123")).map(
    lambda found: Manifest.of(Entry(path, 0o644, digit * 64) for path, digit in found.items())
)


def make_log(directory: pathlib.Path) -> RegistryLog:
    return RegistryLog(str(directory / "registry.jsonl"), str(directory / "registry.jsonl.1"))


@given(st.lists(st.tuples(MANIFESTS, st.booleans(), st.sampled_from(["", "torn", "junk"])), max_size=8))
def test_whatever_was_agreed_on_is_known_later_also_after_restarts_and_damage(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Manifest, bool, str]]
) -> None:
    directory = tmp_path_factory.mktemp("log")
    log = make_log(directory)
    noted: list[tuple[float, Manifest]] = []
    for number, (manifest, restarts, damage) in enumerate(steps):
        log.note(manifest, f"1.{number}", float(number))
        if not noted or noted[-1][1] != manifest:
            noted.append((float(number), manifest))
        if damage:
            with open(directory / "registry.jsonl", "a", encoding="ascii") as file:
                file.write('{"at": 3' if damage == "torn" else "junk\n")
        if restarts or damage:
            log = make_log(directory)
    found = {one.at: one.manifest for one in make_log(directory).read()}
    # After damage a whole line is written, though nothing has changed.
    assert {at: manifest for at, manifest in noted if at in found} == dict(noted)
    for at, manifest in found.items():
        assert manifest == next(known for when, known in reversed(noted) if when <= at)


def test_the_newest_state_before_a_time_is_found_and_where_the_record_begins(tmp_path: pathlib.Path) -> None:
    log = make_log(tmp_path)
    one, other = (Manifest.of([Entry("a.conf", 0o644, digit * 64)]) for digit in "01")
    assert find_agreed(log.read(), 5.0) == (None, None)
    log.note(one, "1.1", 10.0)
    log.note(other, "1.2", 20.0)
    assert find_agreed(log.read(), 9.0) == (None, 10.0)
    for at, wanted in ((10.0, one), (19.9, one), (20.0, other), (1e9, other)):
        found, _ = find_agreed(log.read(), at)
        assert found is not None and found.manifest == wanted


def test_a_full_file_is_turned_over_and_the_next_one_begins_with_all_of_it(tmp_path: pathlib.Path) -> None:
    log, number = RegistryLog(str(tmp_path / "registry.jsonl"), str(tmp_path / "registry.jsonl.1"), 20_000), 0
    while not (tmp_path / "registry.jsonl.1").exists():
        number += 1
        many = [Entry(f"{number}-{k}.conf", 0o644, "0" * 64) for k in range(50)]
        log.note(Manifest.of(many), f"1.{number}", float(number))
    last = Manifest.of([Entry("a.conf", 0o644, "0" * 64)])
    log.note(last, "2.0", number + 1.0)
    assert (tmp_path / "registry.jsonl").stat().st_size < 1000
    assert [one.at for one in make_log(tmp_path).read()] == [float(n) for n in range(1, number + 2)]
    (tmp_path / "registry.jsonl").unlink()
    (tmp_path / "registry.jsonl").mkdir()
    log.note(Manifest.of([]), "2.1", number + 2.0)


# ---- the plan ---------------------------------------------------------------------------------------------------


@given(MANIFESTS, MANIFESTS, st.sets(st.sampled_from("0123")))
def test_the_plan_leads_there_and_touches_nothing_whose_content_is_lost(
    present: Manifest, wanted: Manifest, digits: set[str]
) -> None:
    plan = plan_restore(present, wanted, {digit * 64 for digit in digits})
    reached = present.changed(plan.writes, plan.deleted)
    lost = {entry.path for entry in plan.lost}
    for path in {entry.path for entry in [*present, *wanted]}:
        assert reached.find(path) == (present if path in lost else wanted).find(path)
    assert all(entry.path not in present for entry in plan.added)
    assert all(entry.path in present for entry in plan.changed)
    assert plan_restore(wanted, wanted, set()).has_work is False


def test_permission_bits_alone_are_no_change() -> None:
    one, other = (Manifest.of([Entry("a.conf", mode, "0" * 64)]) for mode in (0o644, 0o600))
    assert not plan_restore(one, other, set()).has_work


# ---- the operation ----------------------------------------------------------------------------------------------

THEN = {"web.conf": program_conf("web", "; old"), "gone.conf": program_conf("gone"), "same.conf": program_conf("same")}
NOW = {"web.conf": program_conf("web"), "new.conf": program_conf("new"), "same.conf": program_conf("same")}


def digest_of(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def record(node: Node, confs: dict[str, str], at: float = 100.0) -> None:
    made = Manifest.of(Entry(path, 0o644, digest_of(text)) for path, text in confs.items())
    make_log(pathlib.Path(node.settings.paths.state_dir)).note(made, "1.1", at)


def keep_here(node: Node, path: str) -> None:
    kept = Kept(path, 0o644, digest_of(THEN[path]), THEN[path].encode(), "a test", False)
    write_kept(str(node.state_dir / "kept" / "1.2"), kept)


def kept_there(node: Node, path: str, content: str | None = None) -> None:
    row = {"generation": "1.3", "path": path, "sha256": digest_of(THEN[path])}
    node.link.answers["kept-list"] = {"kept": [row], "total": 1}
    text = base64.b64encode((THEN[path] if content is None else content).encode()).decode()
    node.link.answers["kept-read"] = {"content": text, "mode": 0o644}


def on_active(base: pathlib.Path, work: Any) -> None:
    on_node(base, work, confs=NOW, active=True)


def test_the_registry_is_what_it_was_and_what_is_replaced_or_deleted_is_kept(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        record(node, THEN)
        keep_here(node, "web.conf")
        kept_there(node, "gone.conf")
        shown = await node.restore.restore_at(RestoreAtRequest(200.0, dry_run=True), ROOT)
        assert (shown["added"], shown["changed"], shown["deleted"], shown["lost"]) == (
            ["gone.conf"],
            ["web.conf"],
            ["new.conf"],
            [],
        )
        assert node.conf_names() == sorted(NOW) and "registry-restored" not in node.codes()
        done = await node.restore.restore_at(RestoreAtRequest(200.0, expected=shown["present"]), ROOT)
        assert done["outcome"] == Outcome.DONE
        assert {path.name: path.read_text() for path in node.registry.iterdir()} == THEN
        held = node.peer_holds()
        assert held is not None and {entry.path for entry in held} == set(THEN), "acknowledged means on both nodes"
        kept = {row["path"] for row in (await node.kept.list_copies(RegistryAtRequest(0.0), ROOT))["kept"]}
        assert {"web.conf", "new.conf"} <= kept and "registry-restored" in node.codes()
        again = await node.restore.restore_at(RestoreAtRequest(200.0), ROOT)
        assert again["outcome"] == Outcome.DONE and not any(again[key] for key in ("added", "changed", "deleted"))

    on_active(tmp_path, work)


def test_a_content_that_nobody_has_leaves_its_conf_alone(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        record(node, THEN)
        node.link.answers["kept-list"] = Disconnected("cut")
        answer = await node.restore.restore_at(RestoreAtRequest(200.0), ROOT)
        assert answer["lost"] == ["gone.conf", "web.conf"] and answer["peer_problem"] == "cut"
        assert (node.registry / "web.conf").read_text() == NOW["web.conf"]
        assert node.conf_names() == ["same.conf", "web.conf"]

    on_active(tmp_path, work)


def test_another_content_under_the_digest_changes_nothing(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        record(node, THEN)
        keep_here(node, "web.conf")
        kept_there(node, "gone.conf", program_conf("evil"))
        answer = await node.restore.restore_at(RestoreAtRequest(200.0), ROOT)
        assert answer["outcome"] == Outcome.REFUSED and "gone.conf cannot be read" in answer["reason"]
        assert {path.name: path.read_text() for path in node.registry.iterdir()} == NOW

    on_active(tmp_path, work)


def test_it_is_refused_on_a_standby_after_a_change_for_an_older_time_and_for_a_path_that_is_none(
    tmp_path: pathlib.Path,
) -> None:
    async def work(node: Node) -> None:
        record(node, THEN)
        node.link.answers["kept-list"] = {"kept": [], "total": 0}
        ask = node.restore.restore_at
        assert "meanwhile" in (await ask(RestoreAtRequest(200.0, expected="0" * 64), ROOT))["reason"]
        early = await ask(RestoreAtRequest(99.0), ROOT)
        assert early["outcome"] == Outcome.REFUSED and early["oldest"] == 100.0
        record(node, {"../x.conf": "x"}, 300.0)
        assert "no path of a registry" in (await ask(RestoreAtRequest(400.0), ROOT))["reason"]
        node.standing.become(Role.STANDBY)
        assert (await ask(RestoreAtRequest(200.0), ROOT))["outcome"] == Outcome.REFUSED
        assert {path.name: path.read_text() for path in node.registry.iterdir()} == NOW

    on_active(tmp_path, work)


def test_deletions_of_most_confs_wait_for_an_operators_word_as_always(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        record(node, {"same.conf": NOW["same.conf"]})
        node.link.answers["kept-list"] = {"kept": [], "total": 0}
        answer = await node.restore.restore_at(RestoreAtRequest(200.0), ROOT)
        held = node.peer_holds()
        assert answer["outcome"] == Outcome.HELD and node.conf_names() == ["same.conf"]
        assert held is not None and len(held) == len(MANY), "the peer has all of them"

    on_node(tmp_path, work, confs=MANY, active=True)


MANY = {"same.conf": NOW["same.conf"], **{f"{number}.conf": program_conf(f"n{number}") for number in range(5)}}


def test_the_times_are_shown(tmp_path: pathlib.Path) -> None:
    async def work(node: Node) -> None:
        empty = await node.restore.show(RegistryAtRequest(1.0), operator())
        assert empty["times"] == [] and empty["rows"] is None and empty["oldest"] is None
        record(node, THEN)
        record(node, NOW, 200.0)
        answer = await node.restore.show(RegistryAtRequest(150.0), operator())
        assert answer["times"] == [[100.0, "1.1", 3], [200.0, "1.1", 3]] and answer["at"] == 100.0
        assert answer["rows"] is not None and len(answer["rows"]) == 3

    on_active(tmp_path, work)
