"""Who may collect a hub's releases: invitations, each with an end, and each of them can be taken back.

A hub keeps no secret of a collector: of a token its SHA-256 (it holds 256 random bits, so nothing slower is
needed), of a client certificate its fingerprint.
"""

import hashlib
import hmac
import logging
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from pydantic import AwareDatetime, StringConstraints

from willis.server.hub.certificates import make_client_certificate
from willis.server.hub.folder import HubFolder
from willis.server.hub.kit import check_name
from willis.server.hub.templates import render
from willis.shared.collection.kit import (
    AUTHORITY,
    CERTIFICATE,
    CLIENT_KEY,
    RELEASE_KEY,
    SETTINGS,
    TOKEN,
)
from willis.shared.errors import StateError
from willis.shared.release_signature import read_public_key
from willis.shared.settings import Settings, read_toml
from willis.shared.update import Digest
from willis.shared.whole_file import make_folder, write_whole

logger = logging.getLogger(__name__)
MOST_DAYS = 3650
_TOKEN_BYTES = 32
_LOOK_S = 1.0
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Invitation(Settings):
    """One collector, as its hub knows it.

    Attributes:
        name: Of the collector.
        proof: What it shows.
        sha256: Of the token, or of the certificate (DER).
        until: From then on it is refused.
    """

    name: Name
    proof: Literal["token", "certificate"]
    sha256: Digest
    until: AwareDatetime


def invite(
    hub: HubFolder, name: str, *, out: Path, days: int, certificate: bool = False
) -> tuple[Path, Invitation]:
    """Write a collector's kit to ``out/NAME``, and note who it is.

    Args:
        hub: Which invites.
        name: Lower-case letters, digits, - and _.
        days: Until it ends, 1 to 3650.
        certificate: Whether the kit has a client certificate instead of a token.

    Raises:
        StateError: The name does not fit, or was invited before, or the folder is not empty.
        ValueError: ``days`` is out of its range.
    """
    check_name(name)
    if not 1 <= days <= MOST_DAYS:
        raise ValueError(f"days must be 1 to {MOST_DAYS}, got {days}")
    noted, kit = hub.collectors / f"{name}.toml", out / name
    if noted.exists():
        raise StateError(f"{name} is invited already; `willis hub uninvite {hub.path} {name}` first")
    if kit.exists() and any(kit.iterdir()):
        raise StateError(f"{kit} is not empty; a kit overwrites nothing, name another --out")
    read_public_key(hub.release_key[1])  # without it the kit would trust no release
    make_folder(kit, mode=0o700)
    if certificate:
        pem, key = make_client_certificate(hub.authority, name=name, days=days)
        write_whole(kit / CLIENT_KEY, key, private=True)
        write_whole(kit / CERTIFICATE, pem)
        digest, port = certificate_digest(pem), hub.settings.collection.certificate_port
    else:
        token = f"willis-{secrets.token_urlsafe(_TOKEN_BYTES)}"
        write_whole(kit / TOKEN, f"{token}\n".encode(), private=True)
        digest, port = token_digest(token), hub.settings.collection.port
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(days=days)
    proof = "certificate" if certificate else "token"
    made = Invitation(name=name, proof=proof, sha256=digest, until=until)
    address = f"{hub.settings.host}:{port}"
    write_whole(kit / AUTHORITY, hub.authority[1].read_bytes())
    write_whole(kit / RELEASE_KEY, hub.release_key[1].read_bytes())
    text = render("collect.toml.jinja", name=name, address=address, until=until.isoformat())
    write_whole(kit / SETTINGS, text.encode())
    make_folder(hub.collectors, mode=0o700)
    write_whole(noted, render("collector.toml.jinja", invitation=made).encode(), private=True)
    return kit, made


def uninvite(hub: HubFolder, name: str) -> None:
    """Take an invitation back: from a second later on it is refused, streams that run are ended.

    Raises:
        StateError: Nobody of that name was invited; the names there are in the message.
    """
    known = sorted(path.stem for path in hub.collectors.glob("*.toml"))
    if name not in known:
        raise StateError(f"{name!r} is not invited; invited are: {', '.join(known) or 'none'}")
    (hub.collectors / f"{name}.toml").unlink()


def token_digest(token: str) -> str:
    """Return what a hub keeps of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def certificate_digest(pem: bytes) -> str:
    """Return what a hub keeps of a client certificate.

    Raises:
        ValueError: It is none.
    """
    return x509.load_pem_x509_certificate(pem).fingerprint(SHA256()).hex()


class GuestList:
    """The invitations of a hub, looked at again at most once a second; safe to share between threads.

    Args:
        folder: ``collectors`` of a hub.
        now: The time of day.
        clock: Seconds that never go back.
    """

    def __init__(
        self,
        folder: Path,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._now, self._clock = folder, now, clock
        self._lock = threading.Lock()
        self._read: tuple[Invitation, ...] = ()
        self._due = -1.0

    def find(self, proof: Literal["token", "certificate"], digest: str) -> Invitation | None:
        """Return whose proof it is; None where it is nobody's, or has ended.

        Every invitation is compared in full, so that the time it takes tells nothing.
        """
        found = None
        for one in self._invitations():
            same = hmac.compare_digest(one.sha256, digest)
            if same and one.proof == proof and self._now() < one.until:
                found = one
        return found

    def stands(self, invitation: Invitation) -> bool:
        """Whether an invitation that was found before is there still, and has not ended."""
        return invitation in self._invitations() and self._now() < invitation.until

    def _invitations(self) -> tuple[Invitation, ...]:
        with self._lock:
            if self._clock() >= self._due:
                self._read = tuple(_readable(sorted(self._folder.glob("*.toml"))))
                self._due = self._clock() + _LOOK_S
            return self._read


def _readable(paths: Iterable[Path]) -> Iterator[Invitation]:
    """Yield what can be read: a file that is damaged, or was removed meanwhile, invites nobody."""
    for path in paths:
        try:
            yield read_toml(path, Invitation, error=StateError)
        except StateError as fault:
            logger.warning("an invitation counts for nothing: %s", fault)
