"""A site that listens, and what it received."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.living_pacs import CALLERS

from willis.client.pacs.settings import PacsSettings
from willis.client.pacs.silence import quietly
from willis.shared.processes import free_port
from willis.shared.settings import parse


@pytest.fixture
def pacs_settings(tmp_path: Path) -> Callable[..., PacsSettings]:
    """Build settings of a listener on a free port: ``pacs_settings(silence_s=0.5)``."""

    def built(**changes: Any) -> PacsSettings:
        values = {
            "ae_title": "WILLIS",
            "spool": tmp_path / "spool",
            "port": free_port(),
            "callers": CALLERS,
            "watermark_bytes": 0,
            "silence_s": 0.5,
        }
        return parse(values | changes, PacsSettings, where="test")

    return built


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with quietly():
        yield
