"""One whole run and its page."""

from pathlib import Path

import pytest
from harness.made_report import Page, make_run, page_of


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def pages(run) -> tuple[str, Page]:
    return page_of(run)
