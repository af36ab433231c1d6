"""The witness that the configuration names, whatever its kind."""

from __future__ import annotations

from ha_agent.adapters.witness import Witness
from ha_agent.core.witness_settings import WitnessSettings, record_name


def make_witness(settings: WitnessSettings, node: str, peer: str, run_dir: str) -> Witness:
    """The witness of ``settings``, whose kind is not empty. Asks nothing yet; ``run`` keeps its connection up."""
    # What a kind needs costs memory where it is used alone.
    if settings.kind == "etcd":
        from ha_agent.adapters.witness_etcd import EtcdAccess, EtcdWitness

        return EtcdWitness(
            EtcdAccess(
                endpoints=settings.endpoints,
                key=f"ha-agent/{record_name(settings, node, peer)}/votes",
                ca_file=settings.ca_file,
                cert_file=settings.cert_file,
                cert_key_file=settings.cert_key_file,
                user=settings.user,
                password_file=settings.password_file,
            )
        )
    from ha_agent.adapters.witness_ssh import SshWitness, WitnessHost

    where = WitnessHost(
        host=settings.host,
        port=settings.ssh_port,
        user=settings.ssh_user,
        key_file=settings.key_file,
        known_hosts=settings.known_hosts,
    )
    return SshWitness(where, run_dir)
