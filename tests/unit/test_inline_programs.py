"""Programs of the main conf become confs, and mean the same there."""

from __future__ import annotations

import configparser

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.inline_programs import take_programs_out

MAIN = """\
[unix_http_server]
file=/run/supervisor.sock

[program:web]
; the page
command=%(here)s/bin/web
environment=A="1",
  B="2"

[supervisord]
nodaemon=false

[program:w1]
command=/bin/w1
[group:workers]
programs=w1, w2
[program:w2]
command=/bin/w2
[eventlistener:mail]
command=/bin/mail
[include]
files = conf.d/*.conf
"""


def test_each_program_gets_a_conf_and_a_group_keeps_its_members() -> None:
    found = take_programs_out(MAIN, "/etc/supervisord.conf")
    assert set(found.confs) == {"web.conf", "workers.conf"}
    assert found.confs["web.conf"] == '[program:web]\n; the page\ncommand=/etc/bin/web\nenvironment=A="1",\n  B="2"\n'
    assert found.confs["workers.conf"].count("[program:") == 2 and "[group:workers]" in found.confs["workers.conf"]
    assert "program:" not in found.main and "[eventlistener:mail]" in found.main and "nodaemon=false" in found.main
    assert take_programs_out(found.main, "/etc/supervisord.conf").confs == {}, "once is enough"


def test_a_main_conf_without_programs_stays_as_it_is_to_the_byte() -> None:
    text = "[supervisord]\r\n;[program:x]\r\n"
    assert take_programs_out(text, "/etc/s.conf").main == text


SECTIONS = st.lists(
    st.sampled_from(["[program:a]", "[program:b]", "[group:g]", "[supervisord]", "x=1", "  y", ";z", ""]), max_size=9
)


@given(SECTIONS)
def test_every_section_is_afterwards_in_exactly_one_place(lines: list[str]) -> None:
    text = "\n".join(["[inet]", *lines, ""])
    found = take_programs_out(text, "/etc/s.conf")

    def sections(content: str) -> dict[str, dict[str, str | None]]:
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
        parser.read_string(content)
        return {name: dict(parser[name]) for name in parser.sections()}

    parts = [sections(content) for content in (found.main, *found.confs.values())]
    merged = {name: options for part in parts for name, options in part.items()}
    assert merged == sections(text) and sum(len(part) for part in parts) == len(merged)
