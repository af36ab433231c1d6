"""No secret stays in what a bundle takes along, wherever somebody has put it."""

from __future__ import annotations

import tomllib

from hypothesis import given
from hypothesis import strategies as st

from ha_agent.core.blanking import Blanker

CONF = """\
; a comment with {0}
[program:bill]
command=/opt/bill/run --port 80 --password={0} -p{0} -a {0} {0} "quoted {0}" USER={0}   ; inline {0}
environment=A="x,{0}",
    B='{0}',

    PLAIN={0}
user=bill
environment = {0}
  {0}
password={0}
stdout_logfile=/var/log/bill.log
api-token: {0}
nonsense {0}
serverurl=http://joe:{0}@127.0.0.1/x?key={0}
[program:x {0}]
"""

KEEPALIVED = """\
# old: auth_pass {0}
vrrp_instance HA_AGENT {{
    authentication {{
        auth_type PASS
        auth_pass {0}
    }}
    authentication {{ auth_type PASS auth_pass "{0}" }}
    notify "/usr/local/bin/tell --token {0}" ! {0}
    script "/usr/bin/check -a {0}"
    virtual_router_id 51
}}
"""

TOML = """\
# {0}
[node]
name = "node-a"  # {0}
unknown = "{0}"
[takeover]
fence_command = ["/usr/bin/ipmi", "-P", "{0}", "off"]
[sinks.chat]
kind = "webhook"
url = "https://hooks.example/services/{0}"
[sinks.run]
kind = "command"
command = ["/bin/tell", "--token={0}", "{0}"]
[other]
password = ["{0}", {{ x = "{0}" }}]
"""

TEXT = """\
joe set password={0} and token: {0}, Authorization: {0}
{{"password": "{0}", "api_key": '{0}', "passed": true}}
redis://:{0}@10.0.0.1:6379/0 https://{0}@host/ --secret {0} requirepass {0}
-----BEGIN OPENSSH PRIVATE KEY-----
{0}
"""

SECRETS = st.one_of(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=8, max_size=30),
    st.text(st.characters(codec="ascii", categories=["L"]), min_size=8, max_size=30),
    st.integers(10**7, 10**20).map(str),
)


@given(SECRETS)
def test_a_secret_stays_nowhere(secret: str) -> None:
    blanker = Blanker()
    for text in (
        blanker.blank_ini(CONF.format(secret)),
        blanker.blank_keepalived(KEEPALIVED.format(secret)),
        blanker.blank_toml(tomllib.loads(TOML.format(secret))),
        blanker.scrub(TEXT.format(secret)),
    ):
        assert secret not in text, text


def test_a_secret_that_was_seen_is_taken_out_of_other_texts_and_plain_words_are_not() -> None:
    blanker = Blanker()
    blanker.blank_ini(
        '[program:x]\ncommand=run production Kx9hunter2 ha-agent\nenvironment=MODE="production",DB_PASSWORD="sesame"\n'
    )
    assert blanker.scrub("production: ha-agent said sesame, Kx9hunter2") == "production: ha-agent said ***, ***"


def test_what_is_no_secret_is_shown() -> None:
    shown = Blanker().blank_ini(CONF.format("hunter2hunter2"))
    for line in (
        "[program:bill]",
        "user=bill",
        "stdout_logfile=/var/log/bill.log",
        "command=/opt/bill/run --port 80 --password=*** -a ***",
    ):
        assert line in shown.splitlines(), shown
    assert 'environment=A="***",B="***",PLAIN="***"' in shown
    keepalived = Blanker().blank_keepalived(KEEPALIVED.format("hunter2hunter2"))
    assert "    virtual_router_id 51\n" in keepalived and "auth_type PASS" in keepalived and "auth_pass ***" in keepalived
    toml = Blanker().blank_toml(tomllib.loads(TOML.format("hunter2hunter2")))
    assert 'name = "node-a"' in toml and 'kind = "webhook"' in toml and "fence_command" in toml and "/usr/bin/ipmi" in toml
    assert (
        Blanker().scrub("node-a is active, 3 programs passed the test\n") == "node-a is active, 3 programs passed the test\n"
    )


@given(st.text(max_size=200))
def test_no_text_breaks_it(text: str) -> None:
    blanker = Blanker()
    blanker.blank_ini(text)
    blanker.blank_keepalived(text)
    blanker.scrub(text)
