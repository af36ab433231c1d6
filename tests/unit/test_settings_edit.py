"""Values are set in agent.toml as somebody has written it; all else of the text stays, or nothing is changed."""

from __future__ import annotations

import pathlib
import stat
import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ha_agent.adapters.settings_change import plan_settings, replace_settings
from ha_agent.core.schema import SettingsError
from ha_agent.core.settings_edit import UneditableText, changed_values, dropped_values, set_values
from ha_agent.core.settings_sample import sample_toml

HAND_MADE = """\
# our pair in the cellar
[node]
name = "node-a"   # as in the inventory
address = "192.0.2.11"

[vrrp]
vip = '192.0.2.10/24' # do not touch
priority = 110

  [takeover]
# Nobody is there at night.
#on_interlock_timeout = "start"
"""


def test_a_value_is_changed_in_its_line_and_every_comment_stays() -> None:
    edited = set_values(HAND_MADE, {"vrrp.vip": "192.0.2.20/24"})
    assert edited == HAND_MADE.replace("'192.0.2.10/24'", '"192.0.2.20/24"')


def test_a_commented_default_becomes_a_line() -> None:
    edited = set_values(HAND_MADE, {"takeover.on_interlock_timeout": "hold"})
    assert edited == HAND_MADE.replace('#on_interlock_timeout = "start"', 'on_interlock_timeout = "hold"')


def test_a_value_that_is_not_there_is_added_to_its_section_or_with_it() -> None:
    edited = set_values(HAND_MADE, {"vrrp.router_id": 7, "registry.mass_delete_fraction": 0.25, "vrrp.nopreempt": False})
    assert "priority = 110\nrouter_id = 7\nnopreempt = false\n\n  [takeover]" in edited
    assert edited.endswith("\n\n[registry]\nmass_delete_fraction = 0.25\n") and edited.startswith(HAND_MADE[:90])


@pytest.mark.parametrize(
    "text",
    [
        'vrrp = { vip = "192.0.2.10/24" }\n',
        'vrrp.vip = "192.0.2.10/24"\n',
        '[vrrp]\n"vip" = "192.0.2.10/24"\n',
        '[vrrp]\nvip = """192.0.2.10/24"""\n',
        'vrrp = "none"\n',
        'x = """\n[vrrp]\n"""\n[vrrp]\nvip = "192.0.2.10/24"\n',
        "[vrrp\n",
    ],
)
def test_a_text_that_is_laid_out_otherwise_is_refused(text: str) -> None:
    with pytest.raises(UneditableText):
        set_values(text, {"vrrp.vip": "192.0.2.20/24"})


VALUES = st.one_of(
    st.booleans(),
    st.integers(0, 10**6),
    st.floats(0.0, 1e6, allow_nan=False),
    st.text(st.characters(codec="ascii", exclude_categories=["Cc"]), max_size=20),
)
NAMES = st.sampled_from(["vrrp.vip", "vrrp.router_id", "takeover.start_all", "registry.path", "log.level", "new.key"])


@given(st.dictionaries(NAMES, VALUES, max_size=4))
def test_whatever_is_set_nothing_else_means_another_thing(values: dict[str, Any]) -> None:
    for text in (HAND_MADE, sample_toml()):
        edited = set_values(text, values)
        found, before = tomllib.loads(edited), tomllib.loads(text)
        for name, value in values.items():
            section, key = name.split(".")
            assert found[section].pop(key) == value
            before.get(section, {}).pop(key, None)
        assert {k: v for k, v in found.items() if v} == {k: v for k, v in before.items() if v}
        kept = [line for line in text.splitlines() if line.startswith("# ")]
        assert [line for line in edited.splitlines() if line.startswith("# ")] == kept
        assert set_values(edited, values) == edited


def test_a_file_is_checked_as_a_whole_and_the_former_one_is_kept_with_its_mode(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "agent.toml"
    text = sample_toml({("node", "name"): "a", ("peer", "name"): "b"})
    path.write_text(text)
    path.chmod(0o640)
    with pytest.raises(SettingsError):
        plan_settings(str(path), {"vrrp.router_id": 4000})
    assert path.read_text() == text and len(list(tmp_path.iterdir())) == 1
    planned, content = plan_settings(str(path), {"vrrp.router_id": 40})
    kept = replace_settings(str(path), content)
    assert planned.vrrp.router_id == 40 and "\nrouter_id = 40\n" in path.read_text()
    assert pathlib.Path(kept).read_text() == text
    assert [stat.S_IMODE(p.stat().st_mode) for p in sorted(tmp_path.iterdir())] == [0o640, 0o640]


def test_one_address_becomes_several_and_one_again_with_every_comment() -> None:
    text = '# ours\n[vrrp]\nvip = "192.0.2.10/24"  # the gateway\'s\n#vips = []\nrouter_id = 7\n'
    before = tomllib.loads(text)
    after = {"vrrp": {"vips": ["192.0.2.10/24", "2001:db8::10/64"], "router_id": 7}}
    several = set_values(text, changed_values(before, after), dropped_values(before, after))
    assert several.splitlines()[2] == '#vip = "192.0.2.10/24"  # the gateway\'s' and tomllib.loads(several) == after
    back = set_values(several, changed_values(after, before), dropped_values(after, before))
    assert tomllib.loads(back) == before and "# ours" in back


def test_a_value_that_stands_on_several_lines_cannot_be_dropped() -> None:
    text = '[vrrp]\nvips = [\n  "192.0.2.10/24",\n]\n'
    with pytest.raises(UneditableText):
        set_values(text, {"vrrp.vip": "192.0.2.10/24"}, ["vrrp.vips"])
