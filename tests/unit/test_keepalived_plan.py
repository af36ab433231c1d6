"""keepalived.conf as it is on servers that run keepalived already: ours comes in, and nothing else goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from ha_agent.adapters.keepalived_conf import render_parts
from ha_agent.core.keepalived_plan import (
    KeepalivedPlan,
    Wanted,
    adopted_settings,
    compare_instances,
    describe_instances,
    instance_from,
    is_ours_alone,
    plan_keepalived,
)
from ha_agent.core.keepalived_text import find_block, parse_keepalived, read_whole
from ha_agent.core.settings import Settings, check_settings

PATH, OWN = "/etc/keepalived/keepalived.conf", "/etc/keepalived/ha-agent.conf"
BALANCER = """\
! a load balancer
global_defs {
    router_id LVS_1
    notification_email {
        ops@example.org
    }
}
vrrp_instance WEB {
    state MASTER
    interface eth0
    virtual_router_id 60
    priority 150
    advert_int 1
    authentication {
        auth_type PASS
        auth_pass s3cret
    }
    virtual_ipaddress {
        192.0.2.80/24
        192.0.2.81/24
    }
}
virtual_server 192.0.2.80 80 {
    delay_loop 6
    lb_algo rr
    real_server 192.0.2.21 80 {
        TCP_CHECK {
            connect_timeout 3
        }
    }
}
"""
PAIR = """\
vrrp_script chk {
    script "/usr/bin/pgrep nginx"
    interval 2
}
vrrp_instance VI_1 {
    state MASTER          # the first one
    interface eth0
    virtual_router_id 51
    priority 101
    authentication {
        auth_type PASS
        auth_pass 1111
    }
    virtual_ipaddress {
        192.0.2.10/24
    }
    track_script {
        chk
    }
    notify_master "/usr/local/bin/start-all.sh now"
    notify_backup /usr/local/bin/stop-all.sh
}
"""
SYNCED = """\
vrrp_sync_group G {
    group {
        VI_1
        VI_2
    }
}
vrrp_instance VI_1 {
    interface eth0
    virtual_router_id 51
    virtual_ipaddress {
        192.0.2.10/24
    }
}
vrrp_instance VI_2 {
    interface eth1
    virtual_router_id 51
    virtual_ipaddress {
        198.51.100.1/24
    }
}
"""


def settings_of(**vrrp: Any) -> Settings:
    return check_settings(
        {
            "node": {"name": "node-a", "address": "192.0.2.11"},
            "peer": {"name": "node-b", "address": "192.0.2.12"},
            "vrrp": {"vip": "192.0.2.10/24", **vrrp},
        }
    )


def plan(files: dict[str, str], settings: Settings | None = None, **allowed: bool) -> KeepalivedPlan:
    settings = settings or settings_of()
    text, names = read_whole(PATH, files.get, lambda pattern: sorted(p for p in files if p == pattern), "node-a")
    others = {name: files[name] for name in names if name != OWN}
    vrrp = settings.vrrp
    wanted = Wanted(vrrp.instance, vrrp.all_vips, vrrp.interface, vrrp.router_id, **allowed)
    return plan_keepalived(PATH, others, parse_keepalived(text), wanted, render_parts(settings))


def whole(files: dict[str, str]) -> str:
    return read_whole(PATH, files.get, lambda pattern: sorted(p for p in files if p == pattern), "node-a")[0]


def is_within(part: str, text: str) -> bool:
    """Whether every line of ``part`` is in ``text``, in this order."""
    rest = iter(text.splitlines())
    return all(line in rest for line in part.splitlines())


# ---- alone, or added -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n\n", None])
def test_where_nothing_stands_the_whole_file_is_ours_and_again_the_same(text: str | None) -> None:
    made = plan({} if text is None else {PATH: text})
    assert made.files == {PATH: render_parts(settings_of()).whole} and not made.is_added
    assert plan(dict(made.files)).files == made.files
    other = settings_of(router_id=77, nopreempt=False)
    assert "virtual_router_id 77" in plan(dict(made.files), other).files[PATH]


def test_beside_a_load_balancer_ours_is_a_file_of_its_own_and_a_line() -> None:
    settings = settings_of()
    made = plan({PATH: BALANCER}, settings)
    assert made.is_added and not made.refused and set(made.files) == {PATH, OWN}
    assert made.files[PATH] == f"{BALANCER}\n# The VRRP instance of ha-agent.\ninclude {OWN}\n"
    assert "    version 3\n" in made.files[OWN] and 'HA_AGENT MASTER 100" root\n' in made.files[OWN]
    assert "global_defs" not in made.files[OWN]
    both = describe_instances(parse_keepalived(whole(dict(made.files))))
    assert set(both) == {"WEB", "HA_AGENT"} and both["HA_AGENT"].tracks and both["HA_AGENT"].has_hook
    assert plan(dict(made.files), settings).files == made.files, "once is enough"
    changed = plan(dict(made.files), settings_of(router_id=88))
    assert changed.files[PATH] == made.files[PATH] and "virtual_router_id 88" in changed.files[OWN] and not changed.refused


def test_a_conf_that_only_includes_is_kept_also_where_that_matches_nothing() -> None:
    for files in ({PATH: "include conf.d/*.conf\n"}, {PATH: "include /etc/x.conf\n", "/etc/x.conf": BALANCER}):
        made = plan(files)
        assert made.is_added and made.files[PATH].startswith(files[PATH])


def test_what_an_operator_has_put_into_ours_stays() -> None:
    ours = render_parts(settings_of()).whole
    for old, new in (
        ("        192.0.2.10/32 dev eth0\n", "        192.0.2.10/32 dev eth0\n        192.0.2.99/32 dev eth0\n"),
        ("    unicast_peer", "    garp_master_delay 2\n    unicast_peer"),
        ("track_file ha_agent {", "vrrp_script x {\n    script /bin/true\n}\ntrack_file ha_agent {"),
        ("    script_user root", "    script_user root\n    notification_email_from a@b"),
    ):
        text = ours.replace(old, new)
        assert text != ours and not is_ours_alone(parse_keepalived(text), "HA_AGENT")
        assert is_within(text, plan({PATH: text}).files.get(PATH, text))


SEVERAL = ("192.0.2.10/24", "2001:db8::10/64", "198.51.100.7/29")


def several_settings(vips: Sequence[str] = SEVERAL) -> Settings:
    return check_settings(
        {
            "node": {"name": "node-a", "address": "192.0.2.11"},
            "peer": {"name": "node-b", "address": "192.0.2.12"},
            "vrrp": {"vips": list(vips)},
        }
    )


def test_of_several_vips_one_is_advertised_and_the_others_stand_beside_it() -> None:
    found = describe_instances(parse_keepalived(render_parts(several_settings()).whole))["HA_AGENT"]
    assert found.addresses == ("192.0.2.10/32", "2001:db8::10/64", "198.51.100.7/29")
    block = parse_keepalived(render_parts(several_settings()).whole).find_all("vrrp_instance")[0]
    assert [c.words[0] for c in block.find_all("virtual_ipaddress")[0].children] == ["192.0.2.10/32"]
    excluded = [c.words for c in block.find_all("virtual_ipaddress_excluded")[0].children]
    assert excluded[0] == ["2001:db8::10/64", "dev", "eth0", "preferred_lft", "0"], "it is no node's source address"
    assert excluded[1] == ["198.51.100.7/29", "dev", "eth0"]
    turned = parse_keepalived(render_parts(several_settings(SEVERAL[::-1])).whole).find_all("vrrp_instance")[0]
    (advertised,) = turned.find_all("virtual_ipaddress")[0].children
    assert advertised.words[0] == "198.51.100.7/29", "the first of IPv4: adverts go between IPv4 addresses"


def test_a_vip_that_agent_toml_no_longer_has_goes_and_one_that_somebody_put_there_stays() -> None:
    text = render_parts(several_settings()).whole
    assert is_ours_alone(parse_keepalived(text), "HA_AGENT", text)
    fewer = plan({PATH: text}, several_settings(SEVERAL[:2])).files[PATH]
    assert describe_instances(parse_keepalived(fewer))["HA_AGENT"].addresses == ("192.0.2.10/32", "2001:db8::10/64")
    assert plan({PATH: text}, settings_of()).files[PATH] == render_parts(settings_of()).whole
    theirs = text.replace("        198.51.100.7/29 dev eth0\n", "        198.51.100.7/29 dev eth0\n        192.0.2.99/32\n")
    assert not is_ours_alone(parse_keepalived(theirs), "HA_AGENT", theirs)
    assert is_within(theirs, plan({PATH: theirs}, several_settings()).files.get(PATH, theirs))


def paths_settings() -> Settings:
    return check_settings(
        {
            "node": {"name": "node-a", "addresses": ["192.0.2.11", "198.51.100.11", "2001:db8::11"]},
            "peer": {"name": "node-b", "addresses": ["192.0.2.12", "198.51.100.12", "2001:db8::12"]},
            "vrrp": {"vip": "192.0.2.10/24", "path_interfaces": ["eth1", "eth2"]},
        }
    )


def test_each_further_path_has_an_instance_and_all_of_them_are_one_group() -> None:
    text = render_parts(paths_settings()).whole
    whole_conf = parse_keepalived(text)
    found = describe_instances(whole_conf)
    names = ["HA_AGENT", "HA_AGENT_PATH_2", "HA_AGENT_PATH_3"]
    assert list(found) == names and {one.sync_group for one in found.values()} == {"HA_AGENT_PATHS"}
    assert [found[name].interface for name in names] == ["eth0", "eth1", "eth2"]
    blocks = {block.words[1]: block for block in whole_conf.find_all("vrrp_instance")}
    assert [blocks[name].value("dont_track_primary") for name in names] == [None, "", ""], "the VIP's interface is tracked"
    assert [one.has_hook for one in found.values()] == [True, False, False], "one role, one report"
    peers = [blocks[name].find_all("unicast_peer")[0].children[0].words[0] for name in names]
    assert peers == ["192.0.2.12", "198.51.100.12", "2001:db8::12"]
    assert len({one.addresses for one in found.values()}) == 3 and found["HA_AGENT_PATH_3"].addresses[0].startswith("fe80::")


def test_ours_with_several_paths_is_ours_and_what_an_operator_adds_to_a_path_stays() -> None:
    text = render_parts(paths_settings()).whole
    assert is_ours_alone(parse_keepalived(text), "HA_AGENT", text)
    assert plan({PATH: text}, paths_settings()).files == {PATH: text}
    assert plan({PATH: text}).files == {PATH: render_parts(settings_of()).whole}, "and one path again"
    one = render_parts(settings_of()).whole
    assert plan({PATH: one}, paths_settings()).files == {PATH: text}
    for old, new in (
        ("    dont_track_primary\n", "    dont_track_primary\n    garp_master_delay 2\n"),
        ("        HA_AGENT_PATH_3\n    }\n}", "        HA_AGENT_PATH_3\n    }\n    smtp_alert true\n}"),
        ("        HA_AGENT_PATH_3\n    }\n}", "        HA_AGENT_PATH_3\n        THEIRS\n    }\n}"),
        ("HA_AGENT_PATH_2", "THEIRS"),
    ):
        assert old in text and not is_ours_alone(parse_keepalived(text.replace(old, new)), "HA_AGENT", text)
    added = plan({PATH: BALANCER}, paths_settings()).files
    assert set(describe_instances(parse_keepalived(whole(dict(added))))) == {
        "WEB",
        *describe_instances(parse_keepalived(text)),
    }
    assert plan(dict(added), paths_settings()).files == added, "once is enough"


def test_an_address_of_others_is_refused_whichever_vip_it_is() -> None:
    made = plan({PATH: BALANCER.replace("192.0.2.81/24", "198.51.100.7/29")}, several_settings())
    assert "198.51.100.7 is an address of vrrp_instance WEB" in made.refused[0]


def test_an_adopted_instance_brings_all_of_its_addresses() -> None:
    conf = """vrrp_instance VI_1 {
        interface eth0
        virtual_router_id 7
        priority 90
        virtual_ipaddress {
            192.0.2.10/24
            192.0.2.20
        }
        virtual_ipaddress_excluded {
            2001:db8::10
        }
    }"""
    found = describe_instances(parse_keepalived(conf))["VI_1"]
    assert adopted_settings(found, None)["vips"] == ["192.0.2.10/24", "192.0.2.20/32", "2001:db8::10/128"]
    first = adopted_settings(found, "192.0.2.20/24")
    assert first["vips"] == ["192.0.2.20/24", "192.0.2.10/24", "2001:db8::10/128"] and "vip" not in first


def test_what_ours_cannot_stand_beside_is_refused_by_name() -> None:
    table = {
        BALANCER: (settings_of(vip="192.0.2.81/24"), "192.0.2.81 is an address of vrrp_instance WEB: --adopt-instance WEB"),
        BALANCER + " ": (settings_of(router_id=60), "virtual_router_id 60 on eth0 is vrrp_instance WEB's: --router-id"),
        BALANCER.replace("WEB", "HA_AGENT"): (settings_of(), "has a vrrp_instance HA_AGENT"),
        BALANCER.replace("router_id LVS_1", "net_namespace x"): (settings_of(), "has net_namespace"),
    }
    for text, (settings, said) in table.items():
        assert any(said in one for one in plan({PATH: text}, settings).refused), said


def test_a_conf_that_is_not_in_use_does_not_come_to_life_and_may_be_replaced() -> None:
    assert "keepalived does not run" in plan({PATH: BALANCER}, runs=False).refused[0]
    replaced = plan({PATH: BALANCER}, runs=False, replace_all=True)
    assert replaced.files == {PATH: render_parts(settings_of()).whole} and not replaced.refused
    added = dict(plan({PATH: BALANCER}).files)
    assert not plan(added, runs=False).refused, "an earlier setup was cut off"


def test_two_instances_in_a_sync_group_are_left_alone() -> None:
    settings = settings_of(vip="192.0.2.50/24", router_id=52)
    made = plan({PATH: SYNCED}, settings)
    assert made.is_added and made.files[PATH].startswith(SYNCED)
    adopted = plan({PATH: SYNCED}, settings_of(instance="VI_1"), adopt=True)
    assert "is in vrrp_sync_group G" in adopted.refused[0]


# ---- adopted ---------------------------------------------------------------------------------------------------


def adoptable(text: str = PAIR, name: str = "VI_1") -> Settings:
    return settings_of(**adopted_settings(describe_instances(parse_keepalived(text))[name], None))


def test_an_adopted_instance_keeps_what_it_has_and_gets_track_file_and_hook() -> None:
    settings = adoptable()
    assert settings.vrrp.priority == 101 and settings.vrrp.router_id == 51 and settings.vrrp.advert_int_s == 1.0
    assert not settings.vrrp.nopreempt and settings.vrrp.instance == "VI_1"
    refused = plan({PATH: PAIR}, settings, adopt=True).refused
    assert len(refused) == 1 and "start-all.sh now" in refused[0] and "--replace-notify" in refused[0]
    made = plan({PATH: PAIR}, settings, adopt=True, replace_notify=True)
    assert made.said == (
        f"{PATH}: notify_master /usr/local/bin/start-all.sh now is taken out",
        f"{PATH}: notify_backup /usr/local/bin/stop-all.sh is taken out",
    )
    kept = [line for line in PAIR.splitlines() if "notify" not in line and "state" not in line]
    assert is_within("\n".join(kept), made.files[PATH]) and "start-all" not in made.files[PATH]
    found = describe_instances(parse_keepalived(whole(dict(made.files))))["VI_1"]
    assert found.tracks and found.has_hook and not found.notify and len(found.hooks) == 5
    assert "state BACKUP" in made.files[PATH] and "vrrp_instance" not in made.files[OWN]
    assert made.files[PATH].startswith("# The VRRP instance of ha-agent.\ninclude"), "before the instance that names it"
    again = plan(dict(made.files), settings, adopt=True, replace_notify=True)
    assert again == KeepalivedPlan(), "once is enough"
    assert plan(dict(made.files), settings) == KeepalivedPlan(), "without the option, too"


def test_an_instance_of_an_included_file_is_adopted_there() -> None:
    files = {PATH: "include /etc/keepalived/vi.conf\n", "/etc/keepalived/vi.conf": PAIR}
    made = plan(files, adoptable(), adopt=True, replace_notify=True)
    assert set(made.files) == {OWN, PATH, "/etc/keepalived/vi.conf"}
    assert describe_instances(parse_keepalived(whole({**files, **made.files})))["VI_1"].has_hook


def test_an_instance_that_is_made_of_a_parameter_is_refused() -> None:
    lines = ["$VI= ", "vrrp_instance VI_1 { ", " virtual_router_id 51 ", " virtual_ipaddress { ", " 192.0.2.10/24 ", " } "]
    text = "\\\n".join(lines) + "\\\n}\n$VI\n"
    assert "comes of a parameter" in plan({PATH: text}, settings_of(instance="VI_1"), adopt=True).refused[0]
    assert "has no vrrp_instance NO (it has VI_1)" in plan({PATH: PAIR}, settings_of(instance="NO"), adopt=True).refused[0]


def test_what_the_two_nodes_must_have_alike_is_compared_before() -> None:
    own = describe_instances(parse_keepalived(PAIR))["VI_1"]
    assert compare_instances(own, instance_from(own.to_dict())) == []
    for old, new, said in (
        ("auth_pass 1111", "auth_pass 2222", "authentication"),
        ("virtual_router_id 51", "virtual_router_id 52\n    version 3", "VRRP version"),
        ("192.0.2.10/24", "192.0.2.10/24\n        192.0.2.11/24", "addresses"),
        ("track_script", "unicast_peer {\n        192.0.2.12\n    }\n    track_script", "unicast_peer"),
    ):
        other = describe_instances(parse_keepalived(PAIR.replace(old, new)))["VI_1"]
        different = compare_instances(own, other)
        assert any(said in one for one in different) and "1111" not in " ".join(different)


def test_an_address_without_a_prefix_or_of_others_is_refused_in_words() -> None:
    bare = describe_instances(parse_keepalived(PAIR.replace("10/24", "10")))["VI_1"]
    with pytest.raises(ValueError, match="has no prefix length: --vip"):
        adopted_settings(bare, None)
    assert adopted_settings(bare, "192.0.2.10/24")["vip"] == "192.0.2.10/24"
    with pytest.raises(ValueError, match="is no address of vrrp_instance VI_1"):
        adopted_settings(bare, "192.0.2.77/24")


# ---- reading ---------------------------------------------------------------------------------------------------


def test_includes_conditions_and_parameters_are_read_as_keepalived_reads_them() -> None:
    files = {
        PATH: "$NET=192.0.2\ninclude sub/*.conf\n@node-a priority 1\n@^node-a priority 2\n"
        "vip ${NET}.10/24\n$NET $NONE ${NONE}\n",
        "/etc/keepalived/sub/a.conf": "include b.conf\na\n",
        "/etc/keepalived/sub/b.conf": "b # c\n",
    }
    match = {"/etc/keepalived/sub/*.conf": ["/etc/keepalived/sub/a.conf"]}
    text, names = read_whole(PATH, files.get, lambda pattern: match.get(pattern, [pattern]), "node-a")
    assert text.splitlines() == ["b # c", "a", "priority 1", "vip 192.0.2.10/24", "192.0.2 $NONE ${NONE}"]
    assert names == [PATH, "/etc/keepalived/sub/a.conf", "/etc/keepalived/sub/b.conf"]
    looped = read_whole(PATH, {PATH: f"include {PATH}\n"}.get, lambda pattern: [pattern], "x")
    assert looped[0] == ""


def test_a_parameter_over_several_lines_and_one_within_another() -> None:
    text = "$A=${B}.1\n$B=10\n$I= \\\nvrrp_instance VI_${N} { \\\n  @node-a priority 9 \\\n}\n$N=3\n$I\nx $A\n"
    made, _ = read_whole(PATH, {PATH: text}.get, lambda pattern: [], "node-a")
    assert parse_keepalived(made).find_all("vrrp_instance")[0].value("priority") == "9" and "x 10.1" in made


def test_a_block_is_found_where_it_stands() -> None:
    assert find_block("a {\n}\nvrrp_instance X\n{\n  b { c }\n}\n", "vrrp_instance", "X") == (2, 5)
    assert find_block("vrrp_instance Y { a { b } }\n", "vrrp_instance", "Y") == (0, 0)
    assert find_block("# vrrp_instance X {\n", "vrrp_instance", "X") is None
