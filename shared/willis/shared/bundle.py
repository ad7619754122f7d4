"""The app bundle that travels from coordinator to site: two names, no code.

Flower unpacks a run's bundle first on ``sys.path`` of every site, so a bundle with code would be code that
runs at every hospital. Willis' bundle only points at the apps that both sides have installed, and a site runs
no other. Its digest is a function of the installed versions of Willis and Flower.
"""

import hashlib
import tempfile
from importlib.metadata import version
from pathlib import Path

from flwr.cli.build import build_fab_from_disk

from willis.shared.whole_file import make_folder, write_whole

_PYPROJECT = """\
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"

[project]
name = "willis-apps"
version = "{version}"
description = "Points at the Willis that is installed"
license = "Apache-2.0"
dependencies = []

[tool.flwr.app]
publisher = "willis"
fab-include = ["/README.md"]

[tool.flwr.app.components]
serverapp = "willis.server.app:app"
clientapp = "willis.client.app:app"

[tool.flwr.app.config]
study = ""
run = ""
sites = ""
resume = false
publish = false
"""
_README = "# Willis\n\nThis bundle holds no code: its apps are those of the installed package.\n"


def write_bundle(folder: Path) -> None:
    """Write the bundle's two files, for ``flwr run``."""
    make_folder(folder)
    write_whole(folder / "pyproject.toml", _PYPROJECT.format(version=version("willis")).encode())
    write_whole(folder / "README.md", _README.encode())


def bundle_digest() -> str:
    """Return the SHA-256 of the bundle as Flower packs it, as 64 hex digits."""
    with tempfile.TemporaryDirectory() as folder:
        app = Path(folder) / "app"
        write_bundle(app)
        return hashlib.sha256(build_fab_from_disk(app)).hexdigest()
