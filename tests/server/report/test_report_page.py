"""The report is one page, whole without a network, the same each time; damaged parts are named."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from harness.made_report import (
    make_run,
    page_of,
)
from matplotlib.image import imread

from willis.server.report import read_run, render, write_report
from willis.shared.errors import ReleaseError, StateError, StudyError
from willis.shared.synthesis import draw_pairs


def test_the_page_needs_no_network_and_fits_a_phone_and_the_dark(pages):
    html, page = pages
    own = re.sub(r"data:image/(png|svg\+xml);base64,[\w+/=]+", "DATA", html)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<iframe|<object", own)
    pictures = [found for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 16 + 16 + 2
    assert own.count('src="DATA"') == own.count("src=") == len(pictures)
    assert all(len(found["alt"]) > 20 for found in pictures)
    assert "prefers-color-scheme: dark" in html
    assert "max-width: 34rem" in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_origin_and_limits_are_told_the_same_each_time(run, pages):
    html, page = pages
    found = read_run(run)
    assert render(found) == html
    assert found.release is not None
    assert found.study.digest() in page.words
    assert found.release.digest in page.words
    for words in ("What not to conclude", "anonymous in law", "memorised", "no ground truth"):
        assert words in page.told()


def test_a_page_in_no_folder_is_refused_before_the_run_is_read(tmp_path):
    with pytest.raises(StateError, match=r"there is no folder .*missing/dir; make it, or name another file"):
        write_report(tmp_path / "no-run", tmp_path / "missing" / "dir" / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_names_are_escaped(tmp_path):
    run = make_run(tmp_path / "run")
    text = (run / "scores.json").read_text().replace('"mixed"', '"<script>alert(1)</script>"')
    (run / "scores.json").write_text(text)
    html, page = page_of(run)
    assert "<script" not in html
    assert "<script>alert(1)</script> minus real" in page.words


@pytest.mark.parametrize("name", ["metrics.jsonl", "scores.json", "study.toml", "release/release.json"])
def test_a_damaged_part_is_an_error_that_names_it(tmp_path, name):
    run = make_run(tmp_path / "run")
    (run / name).write_text('{"rows": \n')
    with pytest.raises((StateError, StudyError, ReleaseError), match=Path(name).name):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_samples_are_those_of_the_release(run):
    found = read_run(run)
    assert found.release is not None
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', render(found))
    shown = imread(io.BytesIO(base64.b64decode(pictures[0])))[:, :, :3]
    assert shown.shape == (96, 6 * 33, 3)
    first = draw_pairs(found.release, n=1, seed=found.study.seed)[0].numpy()
    assert np.abs(shown[::6, : 6 * 16 : 6, 0] - (first[0] + 1) / 2).max() < 1 / 255
    marked = shown[::6, 6 * 17 :: 6]
    assert np.array_equal(marked[..., 0] - marked[..., 2] > 0.2, first[1] > 0)
