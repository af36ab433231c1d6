"""The configuration reports all its problems at once, each with its key, its value and what is allowed."""

from __future__ import annotations

import pathlib
import tomllib

import pytest

from ha_agent.adapters.settings_paths import SOCKET, read_places
from ha_agent.core.places import DEFAULT_RUN_DIR
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings import SECTIONS, PathSettings, SupervisorSettings, check_settings, parse_memory_limit
from ha_agent.core.settings_sample import flat_values, sample_toml, settings_as_dict
from ha_agent.core.witness_settings import record_name

GOOD = """
[node]
name = "a"
address = "192.0.2.1"
[peer]
name = "b"
address = "192.0.2.2"
[vrrp]
vip = "192.0.2.9/24"
"""


def problems_of(text: str) -> dict[str, str]:
    with pytest.raises(SettingsError) as caught:
        check_settings(tomllib.loads(text))
    return {p.key: str(p) for p in caught.value.problems}


def test_a_minimal_file_is_good() -> None:
    assert check_settings(tomllib.loads(GOOD)).vrrp.advert_int_s == 0.1


def test_all_problems_are_reported_at_once() -> None:
    node = '[node]\nname="a b"\nadress="x"\n'  # codespell:ignore
    found = problems_of(node + '[nonsense]\n[vrrp]\nvip="192.0.2.9"\npriority=300\nnopreempt="yes"')
    assert set(found) == {
        "[nonsense]",
        "node.adress",  # codespell:ignore
        "node.name",
        "node.address",
        "peer.name",
        "peer.address",
        "vrrp.vip",
        "vrrp.priority",
        "vrrp.nopreempt",
    }
    assert 'did you mean "address"' in found["node.adress"]  # codespell:ignore
    assert "300" in found["vrrp.priority"] and "1 to 254" in found["vrrp.priority"]


def test_a_number_with_a_fraction_takes_a_whole_one_but_not_a_truth() -> None:
    assert check_settings(tomllib.loads(GOOD + "advert_int_s = 1\n")).vrrp.advert_int_s == 1.0
    assert "vrrp.advert_int_s" in problems_of(GOOD + "advert_int_s = true\n")


def test_two_nodes_of_one_name_or_address_are_refused() -> None:
    assert "peer.name" in problems_of(GOOD.replace('name = "b"', 'name = "a"'))
    assert "peer.address" in problems_of(GOOD.replace("192.0.2.2", "192.0.2.1"))


OWN, PEER = 'addresses = ["192.0.2.1", "198.51.100.1"]', 'addresses = ["192.0.2.2", "198.51.100.2"]'
PATHS = GOOD.replace('address = "192.0.2.1"', OWN).replace('address = "192.0.2.2"', PEER) + 'path_interfaces = ["eth1"]\n'


def test_several_paths_stand_in_place_of_one() -> None:
    settings = check_settings(tomllib.loads(PATHS))
    assert settings.node.paths == ("192.0.2.1", "198.51.100.1") and settings.node.address == "192.0.2.1"
    assert settings.peer.paths == ("192.0.2.2", "198.51.100.2") and settings.peer.address == "192.0.2.2"
    values = {(section, key): value for section, table in settings_as_dict(settings).items() for key, value in table.items()}
    assert check_settings(tomllib.loads(sample_toml(values))) == settings
    assert check_settings(tomllib.loads(GOOD)).peer.paths == ("192.0.2.2",)


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        (PEER, f'{PEER}\naddress = "192.0.2.2"', "peer.addresses"),
        (PEER, 'address = "192.0.2.2"', "peer.addresses"),
        (PEER, 'addresses = ["192.0.2.2", "2001:db8::2"]', "peer.addresses"),
        (PEER, 'addresses = ["192.0.2.2", "192.0.2.2"]', "peer.addresses"),
        (PEER, 'addresses = ["192.0.2.2", "198.51.100.1"]', "peer.addresses"),
        (PEER, "addresses = []", "peer.addresses"),
        (PEER, "", "peer.address"),
        (OWN, "", "node.address"),
        ('["eth1"]', "[]", "vrrp.path_interfaces"),
        ('["eth1"]', '["eth 1"]', "vrrp.path_interfaces"),
    ],
)
def test_the_ends_of_several_paths_are_told_one_beside_the_other(old: str, new: str, key: str) -> None:
    assert key in problems_of(PATHS.replace(old, new))


VIPS = 'vips = ["192.0.2.9/24", "2001:db8::9/64"]\n'


def test_several_vips_stand_in_place_of_one() -> None:
    several = check_settings(tomllib.loads(GOOD.replace('vip = "192.0.2.9/24"\n', VIPS))).vrrp
    assert several.all_vips == ("192.0.2.9/24", "2001:db8::9/64") and several.vip == "192.0.2.9/24"
    one = check_settings(tomllib.loads(GOOD)).vrrp
    assert one.all_vips == ("192.0.2.9/24",) and not one.vips


def test_one_vip_and_several_at_once_are_refused_in_words() -> None:
    said = problems_of(GOOD + VIPS)["vrrp.vips"]
    assert said == "vrrp.vips: stands beside vrrp.vip; allowed: vip for one, or vips for several"
    assert "vrrp.vip" in problems_of(GOOD.replace('vip = "192.0.2.9/24"\n', ""))
    assert "vrrp.vip" in problems_of(GOOD.partition("[vrrp]")[0])


@pytest.mark.parametrize(
    "vips",
    [
        "[]",
        '["192.0.2.9"]',
        '["192.0.2.9/24", "192.0.2.9/24"]',
        '["192.0.2.9/24", "192.0.2.9/32"]',
        '["2001:db8::9/64", "2001:db8:0::9/64"]',
        str([f"192.0.2.{n}/24" for n in range(1, 22)]),
    ],
)
def test_a_list_of_vips_names_each_address_once_with_its_prefix(vips: str) -> None:
    assert "vrrp.vips" in problems_of(GOOD.replace('vip = "192.0.2.9/24"\n', f"vips = {vips}\n"))


def test_one_vip_is_of_the_kind_of_the_own_address_that_adverts_go_from() -> None:
    six = '["2001:db8::9/64", "2001:db8::8/64"]'
    assert "none is of IPv4" in problems_of(GOOD.replace("192.0.2.9/24", "2001:db8::9/64"))["vrrp.vip"]
    assert "vrrp.vips" in problems_of(GOOD.replace('vip = "192.0.2.9/24"', f"vips = {six}"))
    own = GOOD.replace("192.0.2.1", "2001:db8::1").replace("192.0.2.2", "2001:db8::2")
    assert check_settings(tomllib.loads(own.replace('vip = "192.0.2.9/24"', f"vips = {six}"))).vrrp.vip == "2001:db8::9/64"
    assert "none is of IPv6" in problems_of(own)["vrrp.vip"]


def test_what_is_printed_of_several_vips_is_a_file_again() -> None:
    settings = check_settings(tomllib.loads(GOOD.replace('vip = "192.0.2.9/24"\n', VIPS)))
    values = {(section, key): value for section, table in settings_as_dict(settings).items() for key, value in table.items()}
    assert ("vrrp", "vip") not in values
    assert check_settings(tomllib.loads(sample_toml(values))) == settings


def test_a_fence_command_is_words_with_an_absolute_path() -> None:
    assert "takeover.fence_command" in problems_of(GOOD + '[takeover]\nfence_command = ["off"]\n')
    assert "takeover.fence_command" in problems_of(GOOD + '[takeover]\nfence_command = "off"\n')


def test_the_sample_is_good_and_names_every_key() -> None:
    sample = sample_toml()
    values = settings_as_dict(check_settings(tomllib.loads(sample)))
    for section in SECTIONS:
        assert f"[{section}]" in sample
        for name in values[section]:
            assert f"{name} = " in sample


def test_the_sample_shows_the_defaults_in_force() -> None:
    sample = sample_toml().partition("\n#[sinks.NAME]")[0]
    uncommented = "\n".join(
        # Of two keys of which a file has one the sample sets the first.
        line[1:]
        if line.startswith("#") and " = " in line and not line.startswith(("# ", "#vips = ", "#addresses = "))
        else line
        for line in sample.splitlines()
    )
    assert check_settings(tomllib.loads(uncommented)) == check_settings(tomllib.loads(sample))


def test_a_sink_lacks_nothing_that_its_kind_needs() -> None:
    assert "sinks.a.url" in problems_of(GOOD + '[sinks.a]\nkind = "webhook"\n')
    assert "sinks.a.command" in problems_of(GOOD + '[sinks.a]\nkind = "command"\ncommand = ["mail"]\n')
    assert "sinks.a.recipients" in problems_of(GOOD + '[sinks.a]\nkind = "smtp"\nhost = "h"\nsender = "a@b"\n')
    assert "sinks.a.kind" in problems_of(GOOD + '[sinks.a]\nkind = "pigeon"\n')
    assert "sinks.a b" in problems_of(GOOD + '[sinks."a b"]\nkind = "journal"\n')
    assert "sinks" in problems_of("sinks = 1\n" + GOOD)
    settings = check_settings(tomllib.loads(GOOD + '[sinks.ops]\nkind = "webhook"\nurl = "http://x/"\nformat = "slack"\n'))
    assert settings.sinks["ops"].format == "slack"
    assert check_settings(
        tomllib.loads(sample_toml(flat_values(tomllib.loads(GOOD + '[sinks.j]\nkind = "journal"\n'))))
    ).sinks


def test_no_message_repeats_the_url_of_a_webhook() -> None:
    for url in ('"https://chat.example/hook?token=hunter2 x"', '["hunter2"]', '"ftp://hunter2"'):
        text = f'{GOOD}[sinks.ops]\nkind = "webhook"\nurl = {url}\n'
        with pytest.raises(SettingsError) as caught:
            check_settings(tomllib.loads(text))
        assert "sinks.ops.url" in str(caught.value) and "hunter2" not in str(caught.value)


def test_a_memory_limit_names_programs_and_a_size() -> None:
    assert parse_memory_limit("redis=512MB") == ("redis", 512 * 1024**2)
    assert parse_memory_limit("a=b=1.5gb") == ("a=b", 1536 * 1024**2)
    for bad in ("512MB", "=5MB", "redis=", "redis=5", "redis=5 apples"):
        assert parse_memory_limit(bad) is None
    assert "alerts.memory_limits" in problems_of(GOOD + '[alerts]\nmemory_limits = ["redis"]\n')


def test_a_client_that_reads_two_places_only_finds_what_the_agent_finds(tmp_path: pathlib.Path) -> None:
    assert (PathSettings().run_dir, SupervisorSettings().socket) == (DEFAULT_RUN_DIR, SOCKET)
    path = tmp_path / "agent.toml"
    path.write_text('[paths]\nrun_dir = "/run/x"\n[supervisor]\nsocket = "/run/y.sock"\n', encoding="ascii")
    assert read_places(str(path)) == ("/run/x", "/run/y.sock")
    path.write_text("[link]\n", encoding="ascii")
    assert read_places(str(path)) == (DEFAULT_RUN_DIR, SOCKET)
    for bad in ("= broken", "[paths]\nrun_dir = 1\n"):
        path.write_text(bad, encoding="ascii")
        with pytest.raises(ValueError):
            read_places(str(path))


WITNESS = GOOD + "[witness]\n"
ETCD = WITNESS + 'kind = "etcd"\nendpoints = ["https://192.0.2.21:2379"]\n'
SSH = WITNESS + 'kind = "ssh"\nhost = "192.0.2.21"\n'


@pytest.mark.parametrize("text", [WITNESS, ETCD, SSH, ETCD + 'user = "x"\npassword_file = "/x"\n'])
def test_a_witness_with_the_usual_times_is_good(text: str) -> None:
    assert check_settings(tomllib.loads(text)).witness.terms.ttl_s == 3.0


@pytest.mark.parametrize(
    ("text", "key", "said"),
    [
        (ETCD + "ttl_s = 2.4\n", "witness.ttl_s", "renew_s + 2 * answer_s + kill_margin_s = 2.5 at least"),
        (ETCD + "ttl_s = 6\n", "witness.kill_margin_s", "ttl_s * 0.1 + 0.1 = 0.7 at least"),
        (ETCD + "watchdog_s = 1\n", "witness.kill_margin_s", "ttl_s * 0.1 + 0.1 + watchdog_s = 1.4 at least"),
        (ETCD + "renew_s = 1.6\n", "witness.ttl_s", "3.1 at least"),
        (ETCD + "answer_s = 1\n", "witness.ttl_s", "3.5 at least"),
        (WITNESS + 'kind = "etcd"\n', "witness.endpoints", "needed by kind etcd"),
        (WITNESS + 'kind = "etcd"\nendpoints = ["192.0.2.21:2379"]\n', "witness.endpoints", "https://HOST:PORT"),
        (WITNESS + 'kind = "etcd"\nendpoints = ["http://192.0.2.2:2379"]\n', "witness.endpoints", "another machine"),
        (ETCD + 'user = "x"\n', "witness.password_file", "needed where there is a user"),
        (ETCD + 'cert_file = "/x"\n', "witness.cert_key_file", "go together"),
        (ETCD + 'cert_key_file = "/x"\n', "witness.cert_file", "go together"),
        (
            WITNESS + 'kind = "etcd"\nendpoints = ["http://c:2379"]\nuser = "x"\npassword_file = "/x"\n',
            "witness.endpoints",
            "https where there is a user",
        ),
        (WITNESS + 'kind = "ssh"\n', "witness.host", "needed by kind ssh"),
        (WITNESS + 'kind = "ssh"\nhost = "b"\n', "witness.host", "another machine"),
        (WITNESS + 'kind = "consul"\n', "witness.kind", '"etcd" or "ssh"'),
    ],
)
def test_a_witness_that_cannot_work_is_refused_with_one_problem(text: str, key: str, said: str) -> None:
    found = problems_of(text)
    assert list(found) == [key] and said in found[key]


def test_times_at_their_bounds_are_good_whatever_a_fraction_loses() -> None:
    for text in (
        "ttl_s = 2.7\nrenew_s = 0.9\nanswer_s = 0.7\nkill_margin_s = 0.4\n",
        "ttl_s = 3.3\nkill_margin_s = 0.43\n",
        "ttl_s = 3.5\nkill_margin_s = 1.5\nwatchdog_s = 1\n",
    ):
        assert check_settings(tomllib.loads(ETCD + text)).witness.kind == "etcd"


def test_both_nodes_of_a_pair_name_the_same_record() -> None:
    settings = check_settings(tomllib.loads(ETCD)).witness
    assert record_name(settings, "a", "b") == record_name(settings, "b", "a") == "a+b"
    named = check_settings(tomllib.loads(ETCD + 'record = "pair-7"\n')).witness
    assert record_name(named, "a", "b") == "pair-7"
