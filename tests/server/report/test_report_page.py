"""The report is one page, whole without a network, the same each time; damaged parts are named."""

import base64
import hashlib
import io
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from harness.made_report import (
    make_run,
    page_of,
)
from matplotlib.image import imread

from willis.server.report.page import read_run, render, write_report
from willis.shared.errors import ReleaseError, StateError, StudyError
from willis.shared.synthesis import draw_pairs

SCRIPT = re.compile(r"<script([^>]*)>(.*?)</script>", re.S)


def test_the_page_needs_no_network_and_fits_a_phone_and_the_dark(pages):
    html, page = pages
    own = re.sub(r"data:image/(png|svg\+xml);base64,[\w+/=]+", "DATA", SCRIPT.sub("", html))
    own = own.replace("https://github.com/niivue/niivue", "")  # in the viewer's licence, as text
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<iframe|<object", own)
    pictures = [found for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 16 + 16 + 2
    assert own.count('srcset="DATA"') == 2, "each chart once more, for a dark page"
    assert len(html) < 5_000_000
    assert own.count('src="DATA"') == own.count("src=") == len(pictures)
    assert all(len(found["alt"]) > 20 for found in pictures)
    assert "prefers-color-scheme: dark" in html
    assert "max-width: 34rem" in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_the_browser_is_told_to_run_the_viewers_scripts_alone(pages):
    html, page = pages
    scripts = [text for kind, text in SCRIPT.findall(html) if "json" not in kind]
    assert [len(text) > 2_000_000 for text in scripts] == [True, False]
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    (policy,) = (found["content"] for _, found in page.tags if "http-equiv" in found)
    assert re.findall(r"'sha256-([^']+)'", policy) == digests
    assert policy.startswith("default-src 'none'; ")
    assert "connect-src" not in policy
    assert "script-src 'unsafe" not in policy
    assert not re.search(r" on[a-z]+=", SCRIPT.sub("", html)), "no script in an attribute"


def test_a_page_without_a_release_has_no_script(tmp_path):
    html, page = page_of(make_run(tmp_path / "run", released=False, scored=False))
    assert "<script" not in html
    assert "script-src" not in html
    assert not [found for tag, found in page.tags if tag == "canvas"]


def test_headings_landmarks_and_tables_are_told_to_a_screen_reader(pages):
    html, page = pages
    tags = [tag for tag, _ in page.tags]
    levels = [int(tag[1]) for tag in tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels
    assert [tags.count(one) for one in ("header", "nav", "main", "footer")] == [1, 1, 1, 1]
    assert tags.count("caption") == tags.count("table") == len(page.tables)
    assert all(found.get("scope") in ("col", "row") for tag, found in page.tags if tag == "th")
    ids = [found["id"] for _, found in page.tags if "id" in found]
    assert len(ids) == len(set(ids))
    targets = {found["href"][1:] for tag, found in page.tags if tag == "a"}
    assert targets <= set(ids)
    assert '<html lang="en">' in html


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
    assert "<script" not in SCRIPT.sub("", html)
    assert "alert(1)" not in "".join(text for _, text in SCRIPT.findall(html))
    assert "<script>alert(1)</script> minus real" in page.words


@pytest.mark.parametrize(
    "name", ["metrics.jsonl", "scores.json", "study.toml", "release/docs/privacy_statement.json"]
)
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
