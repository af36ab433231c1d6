"""One node's part of setup: what an undo takes back, and what no peer may be called."""

from __future__ import annotations

import json
import os
import pathlib

import pytest

from ha_agent.adapters.setup_changes import SetupChanges
from ha_agent.cli.setup_cmd import make_requests
from ha_agent.cli.setup_node import SetupFailed, trusted_files
from ha_agent.core.setup_plan import PENDING_KEY, add_peer_key, pin_host_key

KEY = "ssh-ed25519 AAAAC3Nz ha-agent@node-b"


def test_an_undo_brings_no_revoked_key_back(tmp_path: pathlib.Path) -> None:
    keys, known, saved = tmp_path / "authorized_keys", tmp_path / "known_hosts", tmp_path / "authorized_keys.before-ha-agent"
    saved.write_text("ssh-rsa REVOKED mallory\nssh-rsa AAAA admin\n", encoding="ascii")
    keys.write_text(add_peer_key("ssh-rsa AAAA admin\nssh-rsa CCCC since\n", KEY), encoding="ascii")
    known.write_text(pin_host_key(None, "node-b", KEY), encoding="ascii")
    os.chmod(keys, 0o600)
    other = tmp_path / "main.conf"
    other.write_text("ours", encoding="ascii")
    (tmp_path / "main.conf.kept").write_text("theirs", encoding="ascii")
    record = {str(keys): str(saved), str(known): None, str(other): str(tmp_path / "main.conf.kept"), "peer_name": "node-b"}
    (tmp_path / "record").write_text(json.dumps(record), encoding="ascii")
    changes = SetupChanges(str(tmp_path / "record"), str(tmp_path / "aside"))
    done = changes.undo("")
    assert done.aside == (str(tmp_path / "aside" / "main.conf"),) and not (tmp_path / "record").exists()
    assert keys.read_text() == "ssh-rsa AAAA admin\nssh-rsa CCCC since\n" and os.stat(keys).st_mode & 0o777 == 0o600
    assert not known.exists() and not saved.exists() and other.read_text() == "theirs"
    (tmp_path / "record").write_text(json.dumps({str(keys): None}), encoding="ascii")
    changes.undo("")
    assert keys.read_text() == "ssh-rsa AAAA admin\nssh-rsa CCCC since\n", "once more takes nothing else"


@pytest.mark.parametrize(
    "name", ["node-b ssh-ed25519 EVIL\n*", "*", "", "a,b", "@cert-authority", "-x", "node b", "a\x1b[2J", "n" * 64]
)
def test_a_peer_with_no_good_name_is_not_trusted(tmp_path: pathlib.Path, name: str) -> None:
    request = {"peer_key": KEY, "peer_host_key": KEY}
    with pytest.raises(SetupFailed, match="not the name of a node"):
        trusted_files(request, str(tmp_path / "known_hosts"), name)
    assert trusted_files(request, str(tmp_path / "known_hosts"), "node-b")[1][1] == "node-b ssh-ed25519 AAAAC3Nz\n"


def test_a_node_without_a_key_is_shown_as_one_that_will_make_it() -> None:
    fact = {"addresses": {"eth0": ["192.0.2.11/24"]}, "key": "", "host_key": KEY, "name": "node-a"}
    other = {**fact, "addresses": {"eth0": ["192.0.2.12/24"]}, "key": KEY, "name": "node-b"}
    requests = make_requests({"own": fact, "peer": other}, "192.0.2.10/24", None, 51, 22)
    assert (requests["own"]["peer_key"], requests["peer"]["peer_key"]) == (KEY, PENDING_KEY)
    assert json.dumps(requests)
