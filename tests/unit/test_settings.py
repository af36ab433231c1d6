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
        line[1:] if line.startswith("#") and " = " in line and not line.startswith("# ") else line
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
