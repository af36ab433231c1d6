"""One node's part of ``ha-agent witness install``: its key, the witness's pinned host key, ``[witness]`` in agent.toml."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import subprocess
from typing import Any

from ha_agent.adapters.files import make_dir, read_or_none, write_atomic
from ha_agent.adapters.settings_change import replace_settings
from ha_agent.adapters.settings_file import load_settings, read_settings
from ha_agent.adapters.settings_paths import DEFAULT_PATH
from ha_agent.core.settings import Settings
from ha_agent.core.settings_edit import UneditableText, set_values
from ha_agent.core.setup_plan import FileChange, is_public_key, pin_host_key, unpin_host_key
from ha_agent.core.witness_settings import record_name

HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
KEYGEN_S = 20.0


class WitnessPartFailed(Exception):
    """This node's part cannot be done; the text says what."""


def run_witness_part(request: dict[str, Any]) -> dict[str, Any]:
    """Does one step of it; "look", "plan" and "test" change nothing.

    Raises ``WitnessPartFailed``, ``OSError`` and ``SettingsError``.
    """
    steps = {"look": _look, "key": _key, "plan": _plan, "apply": _apply, "test": _test}
    return steps[str(request["step"])](request)


def _look(_request: dict[str, Any]) -> dict[str, Any]:
    """What must be alike on both nodes, and by what a machine of the pair is known. ``key``: "" where there is none yet."""
    settings = load_settings(DEFAULT_PATH)
    witness = settings.witness
    own = (read_or_none(HOST_KEY) or b"").decode("ascii", "replace").split()[:2]
    boot_id = (read_or_none("/proc/sys/kernel/random/boot_id") or b"").decode("ascii", "replace").strip()
    return {
        "name": settings.node.name,
        "peer": settings.peer.name,
        "record": record_name(witness, settings.node.name, settings.peer.name),
        "kind": witness.kind,
        "host": witness.host,
        "port": witness.ssh_port,
        "user": witness.ssh_user,
        "key": _public_half(witness.key_file) if os.path.exists(witness.key_file) else "",
        "host_key": " ".join(own),
        "boot_id": boot_id,
        "addresses": _addresses_of(settings),
    }


def _addresses_of(settings: Settings) -> list[str]:
    """Every address by which a machine of the pair is known here."""
    found = {settings.node.address, settings.peer.address, *settings.peer.paths}
    found |= {vip.partition("/")[0] for vip in settings.vrrp.all_vips}
    return sorted(found - {""})


def _key(_request: dict[str, Any]) -> dict[str, Any]:
    """The public half of the key that the witness lets in, made where there is none."""
    key_file = load_settings(DEFAULT_PATH).witness.key_file
    if not os.path.exists(key_file):
        make_dir(os.path.dirname(key_file), 0o700)
        _keygen("-q", "-t", "ed25519", "-N", "", "-C", f"ha-agent@{socket.gethostname()}", "-f", key_file)
    return {"key": _public_half(key_file)}


def _plan(request: dict[str, Any]) -> dict[str, Any]:
    """The node's two files, as they are to be."""
    return {"changes": [change.to_dict() for change in plan_node(request)]}


def plan_node(request: dict[str, Any], path: str = DEFAULT_PATH) -> list[FileChange]:
    """known_hosts and agent.toml (``path``), changed or not. ``remove``: without the witness."""
    settings = load_settings(path)
    known_hosts = settings.witness.known_hosts
    host, text = str(request["host"]), _read(path) or ""
    known = _read(known_hosts)
    if request.get("remove"):
        changes = [FileChange(known_hosts, known, unpin_host_key(known, host), 0o600)] if known is not None else []
        return [*changes, FileChange(path, text, _without_witness(settings, text), 0o644)]
    host_key = str(request["host_key"])
    if not is_public_key(host_key):
        raise WitnessPartFailed(f"this is not a host key: {host_key[:60]!r}")
    return [
        FileChange(known_hosts, known, pin_host_key(known, host, host_key), 0o600),
        FileChange(path, text, _with_witness(settings, text, host, int(request["port"]), path), 0o644),
    ]


def _with_witness(settings: Settings, text: str, host: str, port: int, path: str) -> str:
    wanted = {"kind": "ssh", "host": host, "ssh_port": port}
    due = {f"witness.{key}": value for key, value in wanted.items() if getattr(settings.witness, key) != value}
    edited = _edit(text, due) if due else text
    read_settings(edited.encode())
    return edited


def _without_witness(settings: Settings, text: str) -> str:
    return _edit(text, {"witness.kind": ""}) if settings.witness.kind else text


def _edit(text: str, values: dict[str, Any]) -> str:
    try:
        return set_values(text, values)
    except UneditableText as error:
        said = ", ".join(f"{name} = {value!r}" for name, value in values.items())
        raise WitnessPartFailed(f"{DEFAULT_PATH}: {error}: write it yourself ({said}), and again") from None


def _apply(request: dict[str, Any]) -> dict[str, Any]:
    """Writes what ``plan`` says now. The agent works with the old values until it is started again."""
    for change in plan_node(request):
        if not change.is_due or change.new is None:
            continue
        content = change.new.encode("utf-8", "surrogateescape")
        if change.path == DEFAULT_PATH:
            replace_settings(change.path, content)
        else:
            make_dir(os.path.dirname(change.path), 0o700)
            mode = stat.S_IMODE(os.stat(change.path).st_mode) if change.old is not None else change.mode
            write_atomic(change.path, content, mode)
    return {}


def _test(_request: dict[str, Any]) -> dict[str, Any]:
    """Whether the witness answers this node, without the agent."""
    from ha_agent.cli.witness_try import say_tried, try_witness

    settings = load_settings(DEFAULT_PATH)
    tried = asyncio.run(try_witness(settings))
    return {"problem": tried.problem, "said": say_tried(settings, tried)}


def _read(path: str) -> str | None:
    raw = read_or_none(path)
    return None if raw is None else raw.decode("utf-8", "surrogateescape")


def _public_half(key_file: str) -> str:
    return _keygen("-y", "-f", key_file).strip()


def _keygen(*words: str) -> str:
    try:
        done = subprocess.run(
            ["ssh-keygen", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=KEYGEN_S
        )
    except FileNotFoundError:
        raise WitnessPartFailed("ssh-keygen is missing on this node: apt install openssh-client") from None
    except subprocess.TimeoutExpired:
        raise WitnessPartFailed(f"ssh-keygen: no end within {KEYGEN_S:g} s") from None
    if done.returncode != 0:
        raise WitnessPartFailed(f"ssh-keygen ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-300:]}")
    return done.stdout
