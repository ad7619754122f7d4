"""Pairs that no disk holds are refused before hours were spent on them."""

import os
import shutil
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import pytest
import torch
from harness.made_release import study_of, write
from hypothesis import given
from hypothesis import strategies as st

from willis.shared.errors import StateError
from willis.shared.export.room import FileForm, disk_bytes, fitting, packed_bytes
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.release import GeneratorRelease
from willis.shared.synthesis import draw_pairs, export_pairs

Usage = namedtuple("Usage", ["total", "used", "free"])


def patches(n: int, seed: int = 0) -> torch.Tensor:
    drawn = torch.rand((n, 2, 16, 16), generator=torch.Generator().manual_seed(seed)) * 2 - 1
    drawn[:, 1] = torch.where(drawn[:, 1] > 0, 1.0, -1.0)
    return drawn


def test_what_packs_well_takes_little_and_noise_takes_what_it_is():
    flat = torch.full((4, 2, 64, 64), -1.0)
    assert packed_bytes(flat) < 0.02 * flat[:, 0].nbytes
    noise = patches(4)
    assert 0.8 * noise[:, 0].nbytes < packed_bytes(noise) < 1.1 * noise[:, 0].nbytes
    assert packed_bytes(noise, grey_bits=8) < packed_bytes(noise, grey_bits=16) < packed_bytes(noise)


@given(st.integers(1, 50), st.integers(0, 40_000))
def test_pairs_are_refused_exactly_where_they_would_not_fit(n, free):
    one = packed_bytes(patches(8)) / 8
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda place: Usage(10**6, 0, free))
        batches = fitting(iter((patches(8), patches(3, seed=1))), Path("absent/folder"), n=n, form="npz")
        if n * one <= free:
            assert [len(batch) for batch in batches] == [8, 3]
        else:
            with pytest.raises(StateError, match=f"write at most {int(free / one)}") as caught:
                next(batches)
            assert f"{n} pairs take some {n * one / 1e9:.3g} GB" in str(caught.value)


@pytest.mark.parametrize("form", ["nnunet", "bids", "npz", "png"])
def test_ten_million_pairs_are_refused_at_once_and_nothing_is_left(tmp_path, monkeypatch, form):
    release = write(tmp_path / "release")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: Usage(10**9, 0, 10**8))
    with pytest.raises(StateError, match=r"10000000 pairs take some .* GB, .* has 0\.1 GB free"):
        export_pairs(release, tmp_path / "out", n=10_000_000, seed=1, form=form)
    assert [path.name for path in tmp_path.iterdir()] == ["release"]


@pytest.fixture(scope="module", params=[16, 48])
def sided(request, tmp_path_factory) -> GeneratorRelease:
    study = study_of()
    sides = (request.param, request.param)
    study = study.model_copy(update={"patch": study.patch.model_copy(update={"size": sides})})
    folder = tmp_path_factory.mktemp("sided") / "release"
    return write(folder, study=study, arrays=arrays_of(build_generator(study)))


@pytest.mark.parametrize("form", get_args(FileForm))
def test_what_is_written_takes_about_what_was_foretold(sided, tmp_path, form):
    """Of small pairs most of the disk goes to blocks that are not full, and to folders."""
    drawn = draw_pairs(sided, n=64, seed=1, device="cpu")
    foretold = 8 * disk_bytes(drawn[:8], tmp_path, form=form, grey_bits=8 if form == "png" else None)
    export_pairs(sided, tmp_path / "out", n=64, seed=1, form=form, device="cpu")
    taken = sum(path.lstat().st_blocks * 512 for path in (tmp_path / "out").rglob("*"))
    assert foretold / 1.5 < taken < 1.5 * foretold


def test_files_take_whole_blocks_and_folders_what_theirs_does(tmp_path, monkeypatch):
    """Of 2 pairs with 2 channels: noise of 1,024 bytes hardly packs, a label of 256 bytes to below 100."""
    noise = patches(2)[:, [0, 0, 1]]
    monkeypatch.setattr(os, "statvfs", lambda place: SimpleNamespace(f_frsize=1000))
    with monkeypatch.context() as patched:
        patched.setattr(Path, "stat", lambda path: SimpleNamespace(st_blocks=1))
        found = {form: disk_bytes(noise, tmp_path, form=form) for form in ("nnunet", "bids", "npz")}
        found["png"] = disk_bytes(noise, tmp_path, form="png", grey_bits=8)
    assert found["nnunet"] == 2 * (2 * 2000 + 1000)
    assert found["bids"] == 2 * (2 * 2000 + 1000 + 4 * 512)
    assert found["png"] == 2 * 3 * 1000
    assert found["npz"] == packed_bytes(noise)
