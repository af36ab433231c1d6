"""The dashboard's configuration reports all its problems, and listens to nobody by accident."""

from __future__ import annotations

import dataclasses
import tomllib

import pytest

from ha_agent.core.schema import SettingsError
from ha_agent.core.web_settings import PairSettings, WebSettings, check_dashboard, is_loopback, sample_web_toml


def problems_of(text: str) -> set[str]:
    with pytest.raises(SettingsError) as caught:
        check_dashboard(tomllib.loads(text), "/run/ha-agent")
    return {problem.key for problem in caught.value.problems}


def test_without_a_file_it_shows_the_own_pair_on_loopback() -> None:
    made = check_dashboard({}, "/run/x")
    assert is_loopback(made.web.listen) and made.pairs == {"local": PairSettings(run_dir="/run/x")}


def test_the_sample_is_good_and_names_every_key() -> None:
    sample = sample_web_toml()
    assert check_dashboard(tomllib.loads(sample), "/run/x") == check_dashboard({}, "/run/x")
    for cls in (WebSettings, PairSettings):
        for spec in dataclasses.fields(cls):
            assert f"#{spec.name} = " in sample


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("[wep]\n", {"[wep]"}),
        ("web = 1\n", {"web"}),
        ('[web]\nport = 0\nlanguage = "fr"\n', {"web.port", "web.language"}),
        ('[web]\nlisten = "192.0.2.1"\n', {"web.listen"}),
        ('[web]\ntls_key = "/k"\n', {"web.tls_certificate"}),
        ("[pairs.x]\n", {"pairs.x"}),
        ('[pairs.x]\nrun_dir = "/run/a"\nurls = ["https://b"]\ntoken_file = "/t"\n', {"pairs.x"}),
        ('[pairs.x]\nurls = ["ftp://b"]\n', {"pairs.x.urls", "pairs.x.token_file"}),
        ('[pairs."a/b"]\nrun_dir = "/run/a"\n', {"pairs.a/b"}),
    ],
)
def test_what_is_wrong_is_named(text: str, wanted: set[str]) -> None:
    assert problems_of(text) == wanted


@pytest.mark.parametrize(
    "url",
    ["https://hub:hunter2@pay-a:8420", "https://pay-a:8420/?token=hunter2", "https://pay a/hunter2", "https:///hunter2"],
)
def test_no_message_repeats_a_url_with_a_secret(url: str) -> None:
    with pytest.raises(SettingsError) as caught:
        check_dashboard({"pairs": {"x": {"urls": [url], "token_file": "/t"}}}, "/run/x")
    assert [p.key for p in caught.value.problems] == ["pairs.x.urls"] and "hunter2" not in str(caught.value)


def test_a_token_crosses_the_network_in_the_clear_only_where_that_is_said() -> None:
    def problems(url: str, **more: bool) -> list[str]:
        try:
            check_dashboard({"pairs": {"x": {"urls": [url], "token_file": "/t", **more}}}, "/run/x")
        except SettingsError as error:
            return [problem.found for problem in error.problems]
        return []

    assert problems("http://pay-a:8420") == ["pay-a without TLS"]
    assert (
        problems("https://pay-a:8420") == problems("http://pay-a", plain_http=True) == problems("http://127.0.0.1:1") == []
    )


@pytest.mark.parametrize(
    ("host", "own"), [("127.0.0.1", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("a", False)]
)
def test_loopback_is_this_machine_alone(host: str, own: bool) -> None:
    assert is_loopback(host) is own
