"""The app bundle that travels from coordinator to site: two names, no code.

Flower unpacks a run's bundle first on ``sys.path`` of every site, so a bundle with code would be code that
runs at every hospital. Willis' bundle only points at the apps that both sides have installed, and a site runs
no other. Its digest is a function of the installed versions of Willis and Flower.
"""

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from willis.shared.whole_file import make_folder, write_whole

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "{name}"
version = "{version}"
description = "Points at what is installed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "willis"
fab-include = ["/README.md"]

[tool.flwr.app.components]
serverapp = "{server}"
clientapp = "{client}"

[tool.flwr.app.config]
{config}"""
_README = "# Willis\n\nThis bundle holds no code: its apps are those of the installed package.\n"


@dataclass(frozen=True)
class Apps:
    """What a bundle points at.

    Attributes:
        name: Of the bundle.
        server: ServerApp, as ``module:name``.
        client: ClientApp.
        config: Keys of a run's configuration, with what they are where a run says nothing.
    """

    name: str
    server: str
    client: str
    config: Mapping[str, str | bool]


WILLIS = Apps(
    "willis-apps",
    "willis.server.app:app",
    "willis.client.app:app",
    {"study": "", "run": "", "sites": "", "resume": False, "publish": False},
)


def write_bundle(folder: Path, apps: Apps = WILLIS) -> None:
    """Write the bundle's two files, for ``flwr run``."""
    config = "".join(f"{key} = {json.dumps(value)}\n" for key, value in apps.config.items())
    text = _PYPROJECT.format(
        name=apps.name, version=version("willis"), server=apps.server, client=apps.client, config=config
    )
    make_folder(folder)
    write_whole(folder / "pyproject.toml", text.encode())
    write_whole(folder / "README.md", _README.encode())


def bundle_digest() -> str:
    """Return the SHA-256 of the bundle as Flower packs it, as 64 hex digits."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app"
        write_bundle(app)
        return hashlib.sha256(build_fab_from_disk(app)).hexdigest()
