"""What a node is, and what of it outlives the agent within one boot."""

from __future__ import annotations

import asyncio
import pathlib

import pytest

from ha_agent.core.kinship import Life
from ha_agent.core.transaction import Watermark
from ha_agent.core.words import Role
from ha_agent.daemon.standing import Standing


def make(tmp_path: pathlib.Path) -> Standing:
    return Standing("a", str(tmp_path / "role.json"))


@pytest.mark.parametrize("role", list(Role))
def test_an_agent_that_is_started_again_goes_on_with_role_claim_and_supervisord(tmp_path: pathlib.Path, role: Role) -> None:
    async def main() -> None:
        standing = make(tmp_path)
        standing.claim_epoch(Watermark(7, "a"))
        standing.note_loaded(Life(123, 456, "7-8"))
        standing.become(role)
        again = make(tmp_path)
        assert again.resume() is None
        assert (again.role, again.claim, again.loaded_into) == (role, Watermark(7, "a"), Life(123, 456, "7-8"))

    asyncio.run(main())


def test_after_a_reboot_a_node_is_standby(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        standing = make(tmp_path)
        assert standing.resume() is None
        assert (standing.role, standing.claim, standing.loaded_into) == (Role.STANDBY, Watermark(), None)

    asyncio.run(main())


@pytest.mark.parametrize("raw", [b"", b"{", b"[]", b'{"role": "king"}', b'{"role": "active"}', b"\xff"])
def test_a_damaged_file_releases_to_be_sure_and_is_named(tmp_path: pathlib.Path, raw: bytes) -> None:
    async def main() -> None:
        (tmp_path / "role.json").write_bytes(raw)
        standing = make(tmp_path)
        remark = standing.resume()
        assert remark is not None and str(tmp_path / "role.json") in remark
        assert standing.role is Role.RELEASING

    asyncio.run(main())


def test_something_may_be_started_only_where_the_node_is_active_and_no_plan_is_under_way(tmp_path: pathlib.Path) -> None:
    class Plan:
        name = "takeover"
        current_step = None
        reason = "why"

    async def main() -> None:
        standing = make(tmp_path)
        for role in Role:
            for plan in (None, Plan()):
                standing.become(role)
                standing.note_plan(plan)
                assert standing.may_start == (role is Role.ACTIVE and plan is None)

    asyncio.run(main())


def test_whoever_waits_is_woken_by_a_change_of_the_role(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        standing = make(tmp_path)
        waiting = asyncio.create_task(standing.wait_change(60.0))
        await asyncio.sleep(0)
        standing.become(Role.TAKING_OVER)
        await asyncio.wait_for(waiting, 5.0)
        await standing.wait_change(0.01)

    asyncio.run(main())


def test_a_role_that_cannot_be_written_down_leaves_no_older_one_and_is_written_later(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        standing = make(tmp_path)
        standing.become(Role.ACTIVE)
        path = tmp_path / "role.json"
        broken = Standing("a", "/proc/nothing-can-be-made-here/role.json")
        broken.become(Role.STANDBY)
        assert broken.role is Role.STANDBY, "what is so does not depend on the note"
        with pytest.raises(OSError, match="nothing-can-be-made-here"):
            broken.keep()
        path.unlink()
        assert standing.keep() and not standing.keep()
        again = make(tmp_path)
        again.resume()
        assert again.role is Role.ACTIVE

    asyncio.run(main())


def test_a_directory_in_the_place_of_the_file_releases_to_be_sure(tmp_path: pathlib.Path) -> None:
    async def main() -> None:
        (tmp_path / "role.json").mkdir()
        standing = make(tmp_path)
        assert standing.resume() is not None and standing.role is Role.RELEASING
        assert standing.keep() and (tmp_path / "role.json").is_file()

    asyncio.run(main())
