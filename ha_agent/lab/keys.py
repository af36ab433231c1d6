"""ed25519 key pairs in OpenSSH's format, for the lab's nodes (from cryptography, which paramiko brings)."""

from __future__ import annotations


def make_key_pair(comment: str) -> tuple[str, str]:
    """A private key without a passphrase and its public line, both as OpenSSH writes them."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return private.decode("ascii"), f"{public.decode('ascii')} {comment}"
