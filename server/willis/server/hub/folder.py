"""A hub's folder: everything that a coordinator has, in one place that can be backed up and moved."""

import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from willis.server.hub import certificates
from willis.server.hub.settings import HubSettings
from willis.server.hub.templates import render
from willis.shared.bundle import write_bundle
from willis.shared.errors import StateError
from willis.shared.processes import script
from willis.shared.release_signature import make_release_key
from willis.shared.settings import read_toml
from willis.shared.whole_file import make_folder, write_whole

CONNECTION = "hub"
IMAGE = "localhost/willis"
USER = "willis"
_FOLDERS = ("ca", "tls", "flwr", "sites", "collectors", "runs", "logs", "units", "nginx")
_FIRST = (
    "superexec.secret",
    "nginx.conf",
    "compose.yaml",
    "bundle",
    "release.key",
    "release.pub",
)  # of a killed `init`
_UNFIT = frozenset("\"'$\\")


@dataclass(frozen=True)
class HubFolder:
    """Where everything lies; see :func:`make_hub` and :func:`open_hub`.

    Attributes:
        path: Absolute.
        settings: As in ``hub.toml``.
    """

    path: Path
    settings: HubSettings

    @property
    def authority(self) -> tuple[Path, Path]:
        """Key and certificate of the hub's authority."""
        return self.path / "ca" / "ca.key", self.path / "ca" / "ca.crt"

    @property
    def server(self) -> tuple[Path, Path]:
        """Key and certificate of the hub's server."""
        return self.path / "tls" / "server.key", self.path / "tls" / "server.crt"

    @property
    def secret(self) -> Path:
        """What SuperLink knows its SuperExec by."""
        return self.path / "superexec.secret"

    @property
    def release_key(self) -> tuple[Path, Path]:
        """Private and public half of the key that signs the hub's releases."""
        return self.path / "release.key", self.path / "release.pub"

    @property
    def collectors(self) -> Path:
        """Who was invited to collect releases."""
        return self.path / "collectors"

    @property
    def sites(self) -> Path:
        """Public keys of the registered sites, and the node that each of them is."""
        return self.path / "sites"

    @property
    def runs(self) -> Path:
        """One folder for every run."""
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        """One file of JSON lines for every program."""
        return self.path / "logs"


def make_hub(path: Path, settings: HubSettings) -> HubFolder:
    """Make a hub's folder; one that is there already is completed, and its authority is never touched.

    Raises:
        StateError: The folder holds something else, or a hub of other settings.
    """
    path = path.resolve()
    if set(str(path)) & _UNFIT or not str(path).isprintable():
        raise StateError(
            f"{str(path)!r} cannot be written into nginx.conf: use no quotes, $, \\ or control signs"
        )
    if (path / "hub.toml").exists():
        settings = settings.model_copy(update={"collection": open_hub(path).settings.collection})
        _check_same(open_hub(path), settings)
    elif path.exists() and not {one.name for one in path.iterdir()} <= {*_FOLDERS, *_FIRST}:
        raise StateError(f"{path} holds something that is no hub; name a folder that is new or empty")
    hub = HubFolder(path, settings)
    for folder in (path, *(path / name for name in _FOLDERS)):
        make_folder(folder, mode=0o700)
        folder.chmod(0o700)
    key, certificate = hub.authority
    if not certificate.exists():  # written last: without it no site trusts the key yet
        if (path / "hub.toml").exists():
            raise StateError(f"{certificate} is lost: restore ca/ from a backup; sites trust no other")
        key.unlink(missing_ok=True)
        certificates.make_authority(key, certificate, host=settings.host)
    if not hub.secret.exists():
        write_whole(hub.secret, secrets.token_hex(32).encode(), private=True)
    write_derived(hub)
    write_whole(
        path / "hub.toml", render("hub.toml.jinja", settings=settings).encode()
    )  # last: now it is one
    return hub


def open_hub(path: Path) -> HubFolder:
    """Open a hub's folder.

    Raises:
        StateError: It is none, its settings do not fit, or others than its owner may read its secrets.
    """
    path = path.resolve()
    if not (path / "hub.toml").exists():
        raise StateError(f"{path} is no hub: it has no hub.toml; make one with `willis hub init {path}`")
    hub = HubFolder(path, read_toml(path / "hub.toml", HubSettings, error=StateError))
    for secret in (hub.authority[0], hub.server[0], hub.secret, hub.release_key[0]):
        if secret.exists() and stat.S_IMODE(secret.stat().st_mode) & 0o077:
            raise StateError(f"others than its owner may open {secret}: chmod 600 it")
    return hub


def write_derived(hub: HubFolder) -> None:
    """Write all that follows from settings and installed version; a certificate that ends soon is renewed."""
    settings, path = hub.settings, hub.path
    if certificates.is_due(hub.server, host=settings.host):
        certificates.make_server_certificate(hub.authority, hub.server, host=settings.host)
    make_release_key(*hub.release_key)  # a hub of an older Willis has none yet
    as_root = os.geteuid() == 0
    nginx = render("nginx.conf.jinja", hub=str(path), settings=settings, as_root=as_root)
    values = {
        "hub": str(path),
        "willis": script("willis"),
        "user": USER,
        "port": settings.port,
        "collection_ports": (settings.collection.port, settings.collection.certificate_port),
        "image": IMAGE,
    }
    write_whole(path / "nginx.conf", nginx.encode())
    write_whole(path / "units" / "willis-hub.service", render("hub.service.jinja", **values).encode())
    serving = render("serving.service.jinja", **values)
    write_whole(path / "units" / "willis-serving.service", serving.encode())
    write_whole(path / "compose.yaml", render("coordinator.compose.yaml.jinja", **values).encode())
    write_whole(path / "flwr" / "config.toml", _flower_config(hub).encode())
    write_bundle(path / "bundle")


def _flower_config(hub: HubFolder) -> str:
    address = json.dumps(f"127.0.0.1:{hub.settings.inner_port}")
    return (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f"address = {address}\nroot-certificates = {json.dumps(str(hub.authority[1]))}\n"
    )


def _check_same(there: HubFolder, settings: HubSettings) -> None:
    old, new = there.settings.model_dump(mode="json"), settings.model_dump(mode="json")
    changed = [f"{key} is {old[key]}, asked for was {new[key]}" for key in old if old[key] != new[key]]
    if changed:
        raise StateError(f"{there.path} is a hub already; edit its hub.toml, or name another folder", changed)
