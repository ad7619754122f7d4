"""A site's startup kit: what a hospital needs from the hub to take part; never a private key."""

import re
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256

from willis.server.hub.folder import IMAGE, USER, HubFolder
from willis.server.hub.templates import render
from willis.shared.errors import StateError
from willis.shared.whole_file import make_folder, write_whole

SITE_FOLDER = "/srv/willis"
_WILLIS = "/opt/willis/bin/willis"
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")  # as in a study


def write_kit(hub: HubFolder, name: str, *, out: Path) -> Path:
    """Write a site's kit to ``out/NAME``: site.toml, ca.crt, README.txt, a unit and a compose file.

    Returns:
        The kit's folder.

    Raises:
        StateError: The name does not fit, or the folder is not empty: a site may have made its key in it.
    """
    check_name(name)
    folder = out / name
    if folder.exists() and any(folder.iterdir()):
        raise StateError(f"{folder} is not empty; a kit overwrites nothing, name another --out")
    authority = hub.authority[1].read_bytes()
    address = hub.settings.address
    site = {
        "site": f"{SITE_FOLDER}/{name}",
        "willis": _WILLIS,
        "user": USER,
        "port": hub.settings.port,
        "image": IMAGE,
    }
    texts = {
        "README.txt": render(
            "kit-readme.txt.jinja", name=name, address=address, fingerprint=fingerprint(authority)
        ),
        "site.toml": render("site.toml.jinja", name=name, address=address),
        "willis-site.service": render("site.service.jinja", **site),
        "compose.yaml": render("site.compose.yaml.jinja", **site),
    }
    make_folder(folder, mode=0o700)
    write_whole(folder / "ca.crt", authority)
    for file, text in texts.items():
        write_whole(folder / file, text.encode())
    return folder


def check_name(name: str) -> None:
    """Refuse what a study could not name.

    Raises:
        StateError: The name does not fit.
    """
    if not _NAME.fullmatch(name):
        raise StateError(f"a site's name has lower-case letters, digits, - and _, at most 63, got {name!r}")


def fingerprint(certificate: bytes) -> str:
    """Return a certificate's SHA-256 as people compare it: pairs of hex digits with colons."""
    return x509.load_pem_x509_certificate(certificate).fingerprint(SHA256()).hex(":").upper()
