"""A hub with one signed release, kits of it, and a line between hub and collector that can be cut."""

import contextlib
import hashlib
import re
import shutil
import socket
import threading
import time
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
from harness.made_release import write

from willis.server.hub.collectors import invite
from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.settings import HubSettings
from willis.server.signing import sign_as_hub
from willis.shared.collection.door import HubDoor, Patience
from willis.shared.collection.kit import SETTINGS, CollectorKit, open_kit
from willis.shared.collection.refusal import CollectionRefused
from willis.shared.processes import free_port

RUN = "tiny-1"
QUICK = Patience(attempts=3, busy_s=0.5)


@cache
def first_release() -> Path:
    """Return a release that was written once for all tests of a process."""
    folder = Path(mkdtemp()) / "release"
    write(folder)
    return folder


def settings_of(**limits: float) -> HubSettings:
    ports = {"port": free_port(), "certificate_port": free_port()}
    values = {"host": "localhost", "listen": "127.0.0.1", "collection": ports | limits}
    return HubSettings.model_validate(values)


def hub_with_release(folder: Path, *, noise_bytes: int = 0, **limits: float) -> HubFolder:
    """Make a hub whose run ``tiny-1`` has a signed release; ``noise.bin`` makes it as large as wanted."""
    hub = make_hub(folder / "hub", settings_of(**limits))
    add_release(hub, RUN, noise_bytes=noise_bytes)
    return hub


def add_release(hub: HubFolder, run: str, *, noise_bytes: int = 0, seed: int = 0) -> Path:
    release = hub.runs / run / "release"
    shutil.copytree(first_release(), release)
    if noise_bytes:
        noise = np.random.default_rng(seed).bytes(noise_bytes)
        (release / "noise.bin").write_bytes(noise)
        with (release / "SHA256SUMS").open("a") as sums:
            sums.write(f"{hashlib.sha256(noise).hexdigest()}  noise.bin\n")
    assert sign_as_hub(release.parent)
    return release


def kit_of(
    hub: HubFolder, name: str = "lab-a", *, certificate: bool = False, port: int | None = None
) -> CollectorKit:
    """Invite somebody and open the kit, with another port of the loopback where one is given."""
    folder, _ = invite(hub, name, out=hub.path.parent / "kits", days=3, certificate=certificate)
    if port is not None:
        text = (folder / SETTINGS).read_text()
        (folder / SETTINGS).write_text(re.sub(r":\d+\"", f':{port}"', text))
    return open_kit(folder)


def door_of(kit: CollectorKit, *, patience: Patience = QUICK) -> HubDoor:
    return HubDoor(kit, patience=patience, wait=lambda pause: time.sleep(min(pause, 0.3)))


def until_invited(door: HubDoor) -> None:
    """Ask until the hub has looked at its invitations again: it answers."""
    end = time.monotonic() + 5
    while True:
        try:
            door.releases()
        except CollectionRefused:
            assert time.monotonic() < end
        else:
            return


def bytes_of(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, by relative path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()
    }


class CuttingLine:
    """A TCP proxy that resets every connection after so many bytes towards the collector."""

    def __init__(self, port: int, *, after: int) -> None:
        self._to, self._after = port, after
        self._door = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._door.getsockname()[1]
        self.cuts = 0
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self) -> "CuttingLine":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(OSError):
            self._door.shutdown(socket.SHUT_RDWR)
        self._door.close()
        self._thread.join(10)

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._door.accept()
                there = socket.create_connection(("127.0.0.1", self._to))
            except OSError:
                return
            threading.Thread(target=self._carry, args=(here, there, None), daemon=True).start()
            threading.Thread(target=self._carry, args=(there, here, self._after), daemon=True).start()

    def _carry(self, source: socket.socket, sink: socket.socket, most: int | None) -> None:
        came = 0
        try:
            while data := source.recv(65536):
                came += len(data)
                if most is not None and came > most:
                    self.cuts += 1
                    break
                sink.sendall(data)
        except OSError:
            came = -1  # the other direction was cut
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        source.close()
