"""A ledger that is open and empty."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.made_ledger import opened

from willis.client.ledger import Ledger


@pytest.fixture
def path(tmp_path) -> Path:
    return tmp_path / "site" / "ledger.sqlite"


@pytest.fixture
def ledger(path) -> Iterator[Ledger]:
    with opened(path) as ledger:
        yield ledger
