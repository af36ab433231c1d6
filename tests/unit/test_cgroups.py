"""Which control group is supervisord's, from what /proc says on machines of each kind."""

from __future__ import annotations

import pathlib

import pytest

from ha_agent.adapters.cgroups import Mount, is_supervisors, parse_groups, parse_mounts, read_members

UNIFIED = "0::/system.slice/supervisor.service\n"
HYBRID = "4:memory:/system.slice\n1:name=systemd:/system.slice/supervisor.service\n0::/system.slice/supervisor.service\n"
LEGACY = "4:memory:/system.slice\n1:name=systemd:/system.slice/supervisor.service\n"


@pytest.mark.parametrize(("text", "kinds"), [(UNIFIED, [True]), (HYBRID, [True, False]), (LEGACY, [False])])
def test_a_process_is_in_the_groups_of_the_hierarchies_that_systemd_uses(text: str, kinds: list[bool]) -> None:
    assert parse_groups(text) == [(kind, "/system.slice/supervisor.service") for kind in kinds]


def test_hierarchies_are_found_where_they_are_mounted_and_the_last_mount_covers_others() -> None:
    row = "25 30 0:22 {} {} rw,relatime - {} {} rw{}"
    mounts = parse_mounts(
        "\n".join(
            (
                row.format("/", "/sys/fs/cgroup", "tmpfs", "tmpfs", ""),
                row.format("/", "/sys/fs/cgroup/memory", "cgroup", "cgroup", ",memory"),
                row.format("/", "/sys/fs/cgroup/systemd", "cgroup", "cgroup", ",xattr,name=systemd"),
                row.format("/lab/node", "/sys/fs/cgroup", "cgroup2", "cgroup2", ""),
            )
        )
    )
    assert mounts == [
        Mount("/sys/fs/cgroup/systemd", "/", False),
        Mount("/sys/fs/cgroup", "/lab/node", True),
    ]
    assert mounts[1].directory_of("/lab/node/system.slice/x") == "/sys/fs/cgroup/system.slice/x"
    assert mounts[0].directory_of("/system.slice/x") == "/sys/fs/cgroup/systemd/system.slice/x"


@pytest.mark.parametrize(
    ("group", "is_own"),
    [
        ("/system.slice/supervisor.service", True),
        ("/system.slice/supervisord.service", True),
        ("/system.slice/system-supervisor.slice/supervisor@a.service", True),
        ("/system.slice/ssh.service", False),
        ("/user.slice/user-0.slice/session-3.scope", False),
        ("/user.slice/user-1000.slice/user@1000.service", False),
        ("/", False),
    ],
)
def test_the_group_of_a_login_or_of_another_service_is_not_supervisords(group: str, is_own: bool) -> None:
    assert is_supervisors(group) is is_own


def test_members_are_those_of_the_groups_below_too_and_none_where_it_is_gone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "cgroup.procs").write_text("5\n7\n0\n", encoding="ascii")
    (tmp_path / "inner" / "cgroup.procs").write_text("9\n", encoding="ascii")
    assert sorted(read_members(str(tmp_path))) == [5, 7, 9]
    assert read_members(str(tmp_path / "gone")) == []
