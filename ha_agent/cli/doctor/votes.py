"""What a pair with a witness needs besides: that the witness is a third machine, and that the keeper is required."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from urllib.parse import urlsplit

from ha_agent.cli.doctor.context import Check, Context, error, ok, warning
from ha_agent.core.findings import Finding


def check_witness(context: Context) -> Iterator[Finding]:
    """The witness's machines, and what the configuration leaves to the agent. Silence is the pair's own finding."""
    settings = context.settings
    witness = settings.witness
    if not witness.kind:
        return
    own = {settings.node.address, settings.peer.address}
    hosts = [witness.host] if witness.kind == "ssh" else [urlsplit(url).hostname or "" for url in witness.endpoints]
    on_pair = [host for host in hosts if resolve(host) & own]
    if len(on_pair) * 2 >= len(hosts):
        text = f"the witness is on a machine of the pair ({', '.join(on_pair)}): it is no third opinion"
        yield error("witness-on-node", text, "put it on a third machine, behind another switch than either node")
    elif not witness.required:
        text = "witness.required is false: where the agent hangs, nobody may kill what runs when its votes end"
        yield warning("keeper-optional", text, "set it to true; systemctl enable --now ha-agent-keeper")
    else:
        yield ok("witness", f"{', '.join(hosts)} ({witness.kind}), and the keeper is required")


def resolve(host: str) -> frozenset[str]:
    """The addresses of ``host``; none where it has none."""
    with contextlib.suppress(OSError):
        return frozenset(str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM))
    return frozenset()


CHECKS: dict[str, Check] = {"witness": check_witness}
"""By name, in the order in which they are made."""
