"""PNG: grey pictures whose scale is told, labels of 0 and 255; 2-D only, whole or not at all."""

import csv
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from harness.written_pairs import ABOUT, FLAT, SOLID, patches_of, small_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from willis.shared.errors import ReleaseError, StateError
from willis.shared.export.png import write_png
from willis.shared.patch import LabelledPatches, PatchSpec

COLOURS = PatchSpec.model_validate({"size": (8, 8), "channels": ("red", "green")})


def png(folder: Path, spec: PatchSpec = FLAT, bits: Literal[8, 16] = 8) -> LabelledPatches:
    patches = patches_of(3, spec)
    assert write_png(iter(patches.split(2)), folder, spec=spec, about=ABOUT, bits=bits) == folder
    return patches


def rows(folder: Path) -> list[dict[str, str]]:
    with (folder / "index.csv").open(newline="") as table:
        return list(csv.DictReader(table))


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


@pytest.mark.parametrize(
    ("bits", "kind", "greys"), [(8, np.uint8, (0, 128, 255)), (16, np.uint16, (0, 32768, 65535))]
)
def test_greys_by_hand(tmp_path, bits, kind, greys):
    # (x + 1) / 2 of white: -1 is 0, 1 is white, 0 is 127.5 or 32767.5, which rounds to the even neighbour.
    patch = torch.full((1, 2, 8, 12), -1.0)
    patch[0, 0, 0, 1], patch[0, 0, 0, 2] = 0.0, 1.0
    write_png([patch], tmp_path / "out", spec=FLAT, about={}, bits=bits)
    image = pixels(tmp_path / "out" / "images" / "syn_000000_0000.png")
    assert image.dtype == kind
    assert tuple(image[0, :3]) == greys
    assert int(pixels(tmp_path / "out" / "labels" / "syn_000000.png").max()) == 0


@pytest.mark.parametrize("bits", [8, 16])
@pytest.mark.parametrize("spec", [FLAT, COLOURS])
def test_the_table_leads_back_to_the_patches(tmp_path, spec, bits):
    patches = png(tmp_path / "out", spec, bits).numpy()
    told = rows(tmp_path / "out")
    assert [(row["pair"], row["channel"]) for row in told] == [
        (str(pair), channel.value) for pair in range(3) for channel in spec.channels
    ]
    for row in told:
        low, white, high = (float(row[name]) for name in ("value_at_0", "white", "value_at_white"))
        values = low + pixels(tmp_path / "out" / row["image"]) / white * (high - low)
        number, channel = int(row["pair"]), [one.value for one in spec.channels].index(row["channel"])
        assert float(np.abs(values - patches[number, channel]).max()) <= 1 / (2**bits - 1) + 1e-9
        label = pixels(tmp_path / "out" / row["label"])
        assert label.dtype == np.uint8
        assert np.array_equal(label, np.where(patches[number, -1] > 0, 255, 0))


def test_pictures_and_the_privacy_sentence(tmp_path):
    png(tmp_path / "out")
    found = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.*")}
    images = {f"images/syn_00000{i}_0000.png" for i in range(3)}
    labels = {f"labels/syn_00000{i}.png" for i in range(3)}
    assert found == images | labels | {"index.csv", "privacy.txt"}
    said = (tmp_path / "out" / "privacy.txt").read_text().splitlines()
    assert said == [f"privacy: {ABOUT['privacy']}", f"release: {ABOUT['release']}"]


def test_volumes_are_refused(tmp_path):
    with pytest.raises(ReleaseError, match="this release draws 8 x 9 x 10; take nnunet, bids or npz"):
        png(tmp_path / "out", SOLID)
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=20, deadline=None)
@given(bits=st.integers(-1, 64).filter(lambda bits: bits not in (8, 16)))
def test_other_depths_are_refused(tmp_path_factory, bits):
    folder = tmp_path_factory.getbasetemp() / "never"
    with pytest.raises(ValueError, match=f"bits must be 8 or 16, got {bits}"):
        write_png([], folder, spec=FLAT, about={}, bits=bits)
    assert not folder.exists()


def test_a_full_disk_leaves_nothing(tmp_path):
    with small_disk(60), pytest.raises(StateError, match=r"cannot write .*free some disk"):
        png(tmp_path / "out")
    assert list(tmp_path.iterdir()) == []
