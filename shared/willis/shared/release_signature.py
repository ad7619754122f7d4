"""Who made a release: an Ed25519 signature (RFC 8032) over its ``SHA256SUMS``, by the key of a hub.

``SHA256SUMS`` names every other file of a release with its digest, so one signature stands for all of them.
``SHA256SUMS.sig`` holds it: one line of base64, the same bytes for the same release and key. Nothing here
interprets what a release holds, so that a forged one is refused before anybody does.
"""

import base64
import binascii
import hashlib
import os
import re
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from willis.shared.errors import ReleaseError, StateError
from willis.shared.whole_file import write_whole

SUMS, SIGNATURE = "SHA256SUMS", "SHA256SUMS.sig"
MOST_SUMS_BYTES = 65_536
_SIGNATURE_BYTES = 64
_BLOCK = 1 << 20
_LINE = re.compile(r"([0-9a-f]{64})  (\S+)")
_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_FETCH_AGAIN = "fetch the release again, from its hub"


@dataclass(frozen=True)
class SignedRelease:
    """A release whose signature and digests were found right.

    Attributes:
        digest: SHA-256 of ``SHA256SUMS``, 64 hex digits: one name for all of the release's bytes.
        files: SHA-256 of every file that it names, by relative path with ``/`` between folders.
    """

    digest: str
    files: Mapping[str, str]


def make_release_key(key_file: Path, public_file: Path) -> None:
    """Make a hub's key for its releases; the private half is for its owner alone.

    Run again it writes a public half that is lost anew from the private one.

    Raises:
        StateError: The private half is lost while the public one is there: those who hold the public half
            would trust no release of a new key.
    """
    if not key_file.exists():
        if public_file.exists():
            raise StateError(f"{key_file} is lost: restore it from a backup; {public_file} trusts no other")
        pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        write_whole(key_file, pem, private=True)
    public = _private_key(key_file).public_key()
    text = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if not public_file.exists() or public_file.read_bytes() != text:
        write_whole(public_file, text)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read the public half of a hub's key.

    Raises:
        StateError: It cannot be read, or is none.
    """
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError) as fault:
        raise StateError(
            f"cannot read the release key {path}: ask the hub for it again (`willis hub init` makes it there)"
        ) from fault
    if not isinstance(key, Ed25519PublicKey):
        raise StateError(f"{path} is a {type(key).__name__}, a release key is Ed25519: ask the hub for it")
    return key


def fingerprint(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a key's 32 bytes as people compare it: pairs of hex digits with colons."""
    return hashlib.sha256(key.public_bytes_raw()).digest().hex(":").upper()


def sign_release(folder: Path, key_file: Path) -> None:
    """Write ``SHA256SUMS.sig`` into a release; the same bytes whenever it is done again.

    Raises:
        ReleaseError: The folder holds something other than its ``SHA256SUMS`` says.
        StateError: The key cannot be read, or the file cannot be written.
    """
    key = _private_key(key_file)
    sums = _read_small(folder, SUMS)
    _check_files(folder, parse_sums(sums, where=str(folder)))
    write_whole(folder / SIGNATURE, base64.b64encode(key.sign(sums)) + b"\n")


def verify_release(folder: Path, key: Ed25519PublicKey) -> SignedRelease:
    """Find out whether a folder is a release that the holder of a key signed, whole and with nothing added.

    1) the signature over ``SHA256SUMS``; 2) its lines; 3) the files that are there, none missing, none more,
    no link, none outside; 4) every digest. Nothing else of a file is looked at.

    Raises:
        ReleaseError: It is not; the message names the file.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise ReleaseError(f"{folder} is not a release: there is no such folder, or it is a link")
    signed = verify_sums(
        _read_small(folder, SUMS), _read_small(folder, SIGNATURE), key=key, where=str(folder)
    )
    _check_files(folder, signed.files)
    return signed


def verify_sums(sums: bytes, signature: bytes, *, key: Ed25519PublicKey, where: str) -> SignedRelease:
    """Check the bytes of ``SHA256SUMS`` against those of ``SHA256SUMS.sig``, before any file is there.

    Args:
        key: Of the hub that is trusted.
        where: What to call the release in a message.

    Raises:
        ReleaseError: Another key signed it, or nobody, or a line does not fit.
    """
    try:
        raw = base64.b64decode(signature.removesuffix(b"\n"), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _SIGNATURE_BYTES or base64.b64encode(raw) + b"\n" != signature:
        raise ReleaseError(f"{where}: {SIGNATURE} must be one line of base64, 64 bytes; {_FETCH_AGAIN}")
    try:
        key.verify(raw, sums)
    except InvalidSignature as fault:
        raise ReleaseError(
            f"{where} is not signed by the key {fingerprint(key)[:23]}...: it was changed, or another hub "
            f"made it; {_FETCH_AGAIN}, and compare fingerprints"
        ) from fault
    return SignedRelease(hashlib.sha256(sums).hexdigest(), parse_sums(sums, where=where))


def parse_sums(sums: bytes, *, where: str) -> dict[str, str]:
    """Return the digest of every file that a ``SHA256SUMS`` names.

    Raises:
        ReleaseError: A line is none, a name could lead elsewhere, is told twice, or is one of the two.
    """
    if len(sums) > MOST_SUMS_BYTES or not sums.endswith(b"\n"):
        raise ReleaseError(
            f"{where}: {SUMS} must have whole lines, at most {MOST_SUMS_BYTES} bytes, got {len(sums)}"
        )
    found: dict[str, str] = {}
    for number, line in enumerate(sums.decode("ascii", "replace")[:-1].split("\n"), start=1):
        match = _LINE.fullmatch(line)
        if match is None or not is_safe_name(match[2]) or match[2] in (SUMS, SIGNATURE):
            raise ReleaseError(f"{where}: line {number} of {SUMS} names no file of a release: {line[:120]!r}")
        if match[2].lower() in {name.lower() for name in found}:
            raise ReleaseError(f"{where}: {SUMS} names {match[2]} twice; {_FETCH_AGAIN}")
        found[match[2]] = match[1]
    return found


def is_safe_name(name: str) -> bool:
    """Whether a relative path stays in its folder on any system: plain words, at most one folder deep."""
    parts = name.split("/")
    return len(parts) <= 2 and all(_PART.fullmatch(part) for part in parts)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a regular file, as 64 hex digits; a link is never followed.

    Raises:
        OSError: It is none, or cannot be read.
    """
    total = hashlib.sha256()
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW), "rb") as file:
        while block := file.read(_BLOCK):
            total.update(block)
    return total.hexdigest()


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        mode = stat.S_IMODE(path.stat().st_mode)
        key = load_pem_private_key(path.read_bytes(), None)
    except FileNotFoundError as fault:
        raise StateError(
            f"there is no release key {path}: restore it from a backup, or, where a hub of a Willis before "
            "0.6 never had one, run `willis hub init` on it again"
        ) from fault
    except (OSError, ValueError, TypeError) as fault:
        raise StateError(f"cannot read the release key {path}: restore it from a backup") from fault
    if not isinstance(key, Ed25519PrivateKey):
        raise StateError(f"{path} is a {type(key).__name__}, a release key is Ed25519: restore it")
    if mode & 0o077:
        raise StateError(f"others than its owner may open {path}: chmod 600 it")
    return key


def _read_small(folder: Path, name: str) -> bytes:
    path = folder / name
    if path.is_symlink() or not path.is_file():
        raise ReleaseError(f"{path} is missing, or no plain file; {_FETCH_AGAIN}")
    with path.open("rb") as file:
        return file.read(MOST_SUMS_BYTES + 1)


def _check_files(folder: Path, wanted: Mapping[str, str]) -> None:
    found = sorted(_files_in(folder))
    missing = sorted(set(wanted) - set(found))
    more = sorted(set(found) - set(wanted) - {SUMS, SIGNATURE})
    if missing or more:
        problems = [f"{name}: missing" for name in missing] + [f"{name}: not signed" for name in more]
        raise ReleaseError(f"{folder} is not what its {SUMS} says; {_FETCH_AGAIN}", problems)
    changed = [name for name, digest in wanted.items() if file_digest(folder / name) != digest]
    if changed:
        raise ReleaseError(f"{folder} was changed: {', '.join(changed)}; {_FETCH_AGAIN}")


def _files_in(folder: Path) -> Iterable[str]:
    """Yield the relative paths of all that is there; an empty folder and what is deeper count by name."""
    for entry in os.scandir(folder):
        if not entry.is_dir(follow_symlinks=False):
            yield _plain(entry)
            continue
        inner = list(os.scandir(entry.path))
        if not inner:
            yield f"{entry.name}/"
        for one in inner:
            yield f"{entry.name}/{_plain(one)}"


def _plain(entry: "os.DirEntry[str]") -> str:
    """Return an entry's name; what is no plain file gets a name that no release has."""
    return entry.name if entry.is_file(follow_symlinks=False) else f"{entry.name} (no plain file)"
