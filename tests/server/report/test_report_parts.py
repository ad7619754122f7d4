"""Parts of the report: the viewer's volumes, the ledger's cells, the card's Markdown, likeness."""

import base64
import gzip
import io
from html.parser import HTMLParser

import nibabel as nib
import numpy as np
import pytest
import torch
from harness.made_report import make_run, page_of, record_of, spent_of
from PIL import Image

from willis.server.report.card import card_html
from willis.server.report.ledger import ledger_rows
from willis.server.report.pictures import pictures_of
from willis.server.report.volumes import viewed_volumes
from willis.shared.errors import StateError
from willis.shared.likeness.rows import LikenessRows, read_likeness, write_likeness
from willis.shared.likeness.sheet import LikenessFigure, LikenessSheet
from willis.shared.patch import PatchSpec
from willis.shared.privacy import PrivacyBudget, PrivacyUnit


def voxels_of(text: str) -> np.ndarray:
    return np.asarray(image_of(text).dataobj)


def image_of(text: str) -> nib.Nifti1Image:
    return nib.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(text)))


def test_the_viewers_files_say_their_spacing_or_that_they_know_none():
    drawn = torch.zeros(1, 2, 8, 9, 10)
    drawn[0, 0] = torch.arange(720).reshape(8, 9, 10) / 719
    for spacing, unit in (((0.5, 1.0, 2.0), "mm"), (None, "unknown")):
        (volume,) = viewed_volumes(drawn, PatchSpec(size=(8, 9, 10), spacing_mm=spacing), title="Synthetic")
        found = image_of(volume.image)
        assert np.array_equal(voxels_of(volume.image), np.round((drawn[0, 0].numpy() + 1) * 127.5))
        assert found.header.get_zooms() == (spacing or (1.0, 1.0, 1.0))
        assert found.header.get_xyzt_units()[0] == unit
        assert nib.aff2axcodes(found.affine) == ("R", "A", "S")


def test_the_viewer_starts_on_the_label_of_a_volume_and_in_the_middle_of_a_stack():
    drawn = torch.full((1, 2, 8, 10, 16), -1.0)
    drawn[0, 1, 2:5, 6, 12] = 1.0  # of slice 12, the fullest, the middle voxel is (3, 6)
    drawn[0, 1, 0, 0, 3] = 1.0
    (volume,) = viewed_volumes(drawn, PatchSpec(size=(8, 10, 16)), title="Synthetic")
    assert volume.start == pytest.approx((3.5 / 8, 6.5 / 10, 12.5 / 16))
    (healthy,) = viewed_volumes(drawn.clamp(max=-1), PatchSpec(size=(8, 10, 16)), title="Synthetic")
    assert healthy.start == pytest.approx((3.5 / 8, 4.5 / 10, 7.5 / 16))
    (stack,) = viewed_volumes(drawn[:, :, 0].expand(5, -1, -1, -1), PatchSpec(size=(10, 16)), title="x")
    assert stack.start[2] == 0.5, "the third of five"


def test_a_picture_of_a_volume_is_of_the_slice_with_most_label():
    patch = torch.full((1, 2, 8, 8, 8), -1.0)
    patch[0, 0, 5], patch[0, 1, 5, 2:4, 2:4], patch[0, 1, 6, 2, 2] = 1.0, 1.0, 1.0
    (shown,) = pictures_of(patch)
    with Image.open(io.BytesIO(base64.b64decode(shown.partition(",")[2]))) as picture:
        pixels = np.asarray(picture.convert("RGB"))
    assert pixels.shape == (96, 2 * 96 + 12, 3), "12 screen pixels a voxel, two images and a line between"
    assert pixels[0, 0].tolist() == [255, 255, 255], "slice 5, which is bright, and not the middle one"
    assert (pixels[30, 96 + 12 + 30] != 255).any(), "its label is in colour"


def test_flat_patches_become_the_slices_of_one_volume():
    drawn = torch.rand(5, 2, 8, 12, generator=torch.Generator().manual_seed(1)) * 2 - 1
    (volume,) = viewed_volumes(drawn, PatchSpec(size=(8, 12), spacing_mm=(0.5, 0.7)), title="Synthetic")
    assert (len(volume.told), volume.view) == (5, "slice")
    image, label = voxels_of(volume.image), voxels_of(volume.label)
    assert image.shape == label.shape == (12, 8, 5)
    row, col, patch = 2, 9, 3  # rows run down on the screen, the second axis of the volume runs up
    assert image[col, 7 - row, patch] == round((float(drawn[patch, 0, row, col]) + 1) * 127.5)
    assert label[col, 7 - row, patch] == int(drawn[patch, 1, row, col] > 0)
    assert image_of(volume.image).header.get_zooms() == pytest.approx((0.7, 0.5, 0.7))


def test_volumes_are_shown_one_by_one_and_thinned_where_they_are_large():
    drawn = torch.zeros(4, 2, 64, 128, 128)
    drawn[:, 0] = torch.rand(64, 128, 128, generator=torch.Generator().manual_seed(1))
    volumes = viewed_volumes(drawn, PatchSpec(size=(64, 128, 128), spacing_mm=(1, 1, 2)), title="Synthetic")
    assert [volume.title for volume in volumes] == ["Synthetic 1", "Synthetic 2", "Synthetic 3"][
        : len(volumes)
    ]
    assert voxels_of(volumes[0].image).shape == (32, 64, 64)
    assert image_of(volumes[0].image).header.get_zooms() == (2, 2, 4)
    assert volumes[0].told == ("Synthetic patch 1, one volume, every 2. voxel shown.",)
    assert sum(volume.bytes_on_page() for volume in volumes) <= 900_000


def test_a_figure_that_is_not_as_the_budget_says_is_told_whole():
    plan = PrivacyBudget(epsilon=8, delta=1e-4, unit=PrivacyUnit.SUBJECT)
    other = spent_of(2.0).model_copy(update={"delta": 1e-3})
    record = record_of(1, spent={"north": spent_of(1.001), "south": other})
    silent = record_of(2, spent={"north": spent_of(2.0)})
    first, second = ledger_rows([record, silent], plan)
    assert first.cells == {"north": "1.01", "south": other.sentence()}, "rounded up, never down"
    assert second.cells == {"north": "2.00", "south": "not told"}


CARD = """---
front: matter
---
# A card <script>alert(1)</script>

**Bold** [text](https://example.org) <img src=x onerror=alert(1)>

## Spending

| site | spent |
| --- | --- |
| <b>north</b> | 1 |
"""


def test_a_card_is_text_however_it_is_written():
    html = str(card_html(CARD))
    assert "front" not in html
    tags: list[str] = []
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.append(tag)
    parser.feed(html)
    assert tags == [
        *("h3", "p", "strong", "h4", "div", "table", "caption", "span"),
        *("thead", "tr", "th", "th", "tbody", "tr", "td", "td"),
    ]
    assert "&lt;script&gt;" in html
    assert "<caption><span>Spending</span></caption>" in html
    assert html.count('scope="col"') == 2
    assert 'id="card-table-1"' in html


def sheet_of(*values: float, seed: int = 1) -> LikenessSheet:
    ceilings = (2.0, 0.9, 1.0)
    figures = [
        LikenessFigure(name=name, value=value, real_against_real=ceiling, n=30, better=better)
        for name, value, ceiling, better in zip(
            ("fd[x]", "coverage[x]", "density[x]"),
            values,
            ceilings,
            ("lower", "higher", "as real"),
            strict=True,
        )
    ]
    none = {"patches": 30, "empty": 0, "full": 0}
    return LikenessSheet(figures=tuple(figures), degenerate=none, degenerate_real=none, seed=seed)


def test_likeness_is_told_beside_floor_and_ceiling(tmp_path):
    run = make_run(tmp_path / "run")
    rows = LikenessRows(synthetic=sheet_of(4.0, 0.6, 1.0), prior=sheet_of(10.0, 0.1, 1.0))
    # (4 - 10) / (2 - 10) = 0.75; (0.6 - 0.1) / (0.9 - 0.1) = 0.625; the density's floor is its ceiling.
    assert rows.ways() == pytest.approx({"fd[x]": 0.75, "coverage[x]": 0.625})
    write_likeness(run / "likeness.json", rows)
    assert read_likeness(run / "likeness.json") == rows
    html, page = page_of(run)
    assert page.tables["alike"][1] == ["fd[x]", "10", "4", "2", "lower", "30"]
    assert "not covered by epsilon" in page.told()
    assert html.count("srcset=") == 3


def test_likeness_of_two_kinds_is_refused(tmp_path):
    path = tmp_path / "likeness.json"
    rows = LikenessRows(synthetic=sheet_of(4.0, 0.6, 1.0), prior=sheet_of(10.0, 0.1, 1.0))
    write_likeness(path, rows)
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2', 1))
    with pytest.raises(StateError, match="is no sheet of likeness"):
        read_likeness(path)
