"""Pairs that no disk holds are refused before hours were spent on them."""

import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.made_release import write
from hypothesis import given
from hypothesis import strategies as st

from willis.shared.errors import StateError
from willis.shared.export.room import fitting, packed_bytes
from willis.shared.synthesis import export_pairs

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
        batches = fitting(iter((patches(8), patches(3, seed=1))), Path("absent/folder"), n=n)
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


def test_what_is_written_takes_about_what_was_foretold(tmp_path):
    release = write(tmp_path / "release")
    file = export_pairs(release, tmp_path / "out", n=64, seed=1, form="npz")
    with np.load(file) as held:
        drawn = torch.from_numpy(np.concatenate([held["images"], held["labels"][:, None] * 2.0 - 1], axis=1))
    foretold = packed_bytes(drawn.float())
    assert 0.8 * foretold < file.stat().st_size < 1.2 * foretold
