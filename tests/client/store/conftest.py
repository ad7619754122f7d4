"""A cohort of twenty subjects on disk."""

from pathlib import Path

import pytest
from harness.made_store import write_subject

from willis.client.cohort import Cohort


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    (tmp_path / "scans").mkdir()
    return Cohort(tuple(write_subject(tmp_path / "scans", f"mayer{i}", i) for i in range(20)))
