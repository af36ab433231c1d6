"""Where files lie: below one directory each, never two at one place, and the shell scripts repeat the same names."""

from __future__ import annotations

import pathlib
import re

import pytest

from ha_agent import keeper
from ha_agent.core.places import DEFAULT_RUN_DIR, DEFAULT_STATE_DIR, RunPlaces, StatePlaces

ROOT = pathlib.Path(__file__).parents[2]
RUN = RunPlaces(DEFAULT_RUN_DIR)


@pytest.mark.parametrize("places", [RunPlaces("/x"), StatePlaces("/x")])
def test_every_place_is_directly_below_its_directory_and_no_two_are_the_same(places: RunPlaces | StatePlaces) -> None:
    names = [name for name, member in vars(type(places)).items() if isinstance(member, property)]
    paths = [path for name in names if isinstance(path := getattr(places, name), str) and not path.endswith("/*.conf")]
    assert len(paths) > 10 and len(set(paths)) == len(paths)
    assert all(re.fullmatch(r"/x/[a-z.1-]+", path) for path in paths)


def test_what_is_made_at_boot_is_where_the_agent_looks_for_it() -> None:
    text = (ROOT / "systemd" / "ha-agent.tmpfiles.conf").read_text(encoding="utf-8")
    made = set(re.findall(r"^[df] (\S+)", text, re.MULTILINE))
    assert made == {RUN.run_dir, RUN.spool, RUN.active_set, RUN.track_file}


def test_the_keeper_names_the_same_files() -> None:
    """It imports nothing of the project."""
    assert [f"{DEFAULT_RUN_DIR}/{name}" for name in (keeper.SOCKET, keeper.STATE, keeper.ACTIVE)] == [
        RUN.keeper_socket,
        RUN.keeper_state,
        RUN.active_set,
    ]


def test_the_hook_and_the_fence_name_the_same_files() -> None:
    hook = (ROOT / "keepalived" / "ha-agent-notify").read_text(encoding="utf-8")
    assert f":-{RUN.spool}}}" in hook
    fence = (ROOT / "systemd" / "ha-agent-fence").read_text(encoding="utf-8").replace("$run", RUN.run_dir)
    assert f":-{RUN.run_dir}}}" in fence
    state = StatePlaces(DEFAULT_STATE_DIR)
    assert f":-{DEFAULT_STATE_DIR}}}" in fence
    said = set(re.findall(r"\$state/([a-z.-]+)", fence))
    assert said == {pathlib.PurePath(path).name for path in (state.vip, state.keepalived_stopped)}
    known = {value for name in dir(RUN) if name[0] != "_" and isinstance(value := getattr(RUN, name), str)}
    assert set(re.findall(rf"{RUN.run_dir}/[a-z.-]+", fence)) <= known
