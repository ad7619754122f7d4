"""A collector's kit: the folder that a hub writes for whoever may collect its releases.

``collect.toml`` (where the hub is), ``ca.crt`` (whose certificate it must show), ``release.pub`` (whose
signature a release must bear), and one of two proofs of who is asking: ``token``, or ``client.crt`` with
``client.key``.
"""

import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from pydantic import StringConstraints

from willis.shared.errors import StateError
from willis.shared.release_signature import read_public_key
from willis.shared.settings import Settings, read_toml

SETTINGS, AUTHORITY, RELEASE_KEY = "collect.toml", "ca.crt", "release.pub"
TOKEN, CERTIFICATE, CLIENT_KEY = "token", "client.crt", "client.key"
_MOST_BYTES = 65_536


class KitSettings(Settings):
    """What ``collect.toml`` says.

    Attributes:
        name: What the hub calls this collector.
        address: Where the hub answers, ``host:port``.
    """

    name: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]
    address: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9.-]{0,252}:[0-9]{1,5}$")]


@dataclass(frozen=True)
class CollectorKit:
    """A kit that was read.

    Attributes:
        authority: The hub's authority, PEM; nobody else's certificate is trusted.
        release_key: Whose signature a release must bear.
        token: Without white space; None where a certificate is the proof.
        certificate: Certificate and private key, PEM; None where a token is the proof.
    """

    settings: KitSettings
    authority: bytes
    release_key: Ed25519PublicKey
    token: str | None = None
    certificate: tuple[bytes, bytes] | None = None

    def __repr__(self) -> str:
        """Tell name and address; never a secret."""
        return f"CollectorKit({self.settings.name} at {self.settings.address})"


def open_kit(folder: Path) -> CollectorKit:
    """Read a kit.

    Raises:
        StateError: A file is missing or does not fit, or others than its owner may read a secret.
    """
    if not folder.is_dir():
        raise StateError(f"{folder} is no kit: there is no such folder; ask the hub for an invitation")
    settings = read_toml(folder / SETTINGS, KitSettings, error=StateError)
    authority = _read(folder / AUTHORITY)
    key = read_public_key(folder / RELEASE_KEY)
    if (folder / TOKEN).exists():
        token = _secret(folder / TOKEN).decode("ascii", "replace").strip()
        if not (token.isascii() and token.isprintable() and token) or " " in token:
            raise StateError(f"{folder / TOKEN} must hold one word; ask the hub for another invitation")
        return CollectorKit(settings, authority, key, token=token)
    if not (folder / CERTIFICATE).exists():
        raise StateError(f"{folder} has neither {TOKEN} nor {CERTIFICATE}: ask the hub for an invitation")
    pair = _read(folder / CERTIFICATE), _secret(folder / CLIENT_KEY)
    return CollectorKit(settings, authority, key, certificate=pair)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_MOST_BYTES)
    except OSError as fault:
        raise StateError(f"cannot read {path}: {fault.strerror}; ask the hub for another kit") from fault


def _secret(path: Path) -> bytes:
    data = _read(path)
    if stat.S_IMODE(path.stat().st_mode) & 0o077:
        raise StateError(f"others than its owner may open {path}: chmod 600 it")
    return data
