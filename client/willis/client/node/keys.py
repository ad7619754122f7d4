"""A site's secrets: made where they stay, for their owner alone, and never made anew over old ones."""

import base64
import os
import stat
from pathlib import Path

from willis.shared.errors import StateError
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.whole_file import write_whole

KEY_FILE = "node.key"
SECRET_FILE = "superexec.secret"


def make_keys(folder: Path, name: str) -> str:
    """Make a site's key and its node's secret where there are none; return the public key's line.

    Guarantees:
        A key that is there stays as it is. ``NAME.pub`` holds the public half, for the hub to register.

    Raises:
        StateError: The folder cannot be written, or a key that is there cannot be used.
    """
    key = folder / KEY_FILE
    if not key.exists():
        write_whole(key, NodeKey.fresh_p384().openssh(), private=True)
    secret = folder / SECRET_FILE
    if not secret.exists():
        write_whole(secret, base64.b64encode(os.urandom(32)), private=True)
    for path in (key, secret):
        check_private(path)
    line = f"{NodeKey.read(key.read_bytes()).identity.line()} {name}"
    write_whole(folder / f"{name}.pub", f"{line}\n".encode())
    return line


def check_private(path: Path) -> None:
    """Refuse a secret that is missing, or that others than its owner may open.

    Raises:
        StateError: Naming the file and what to do.
    """
    try:
        open_to = stat.S_IMODE(path.stat().st_mode) & 0o077
    except OSError as fault:
        raise StateError(f"cannot use {path}: {fault.strerror}; `willis site init` makes it") from fault
    if open_to:
        raise StateError(f"others than its owner may open {path}: chmod 600 it")
