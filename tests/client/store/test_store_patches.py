"""The patch store: what comes out is what was cut, of whom it was asked, and flipped."""

import hashlib

import numpy as np
import pytest
import torch
from harness.made_patches import dice
from harness.made_store import SPEC, content

from willis.client import store as store_module
from willis.client.cohort import Cohort
from willis.client.patches import cut_patches, load_subject
from willis.client.store import Index, PatchStore, build_store
from willis.shared.patch import PatchSpec, check_patches


def flips(patch: torch.Tensor) -> list[torch.Tensor]:
    return [patch, patch.flip(1), patch.flip(2), patch.flip(1, 2)]


def test_the_file_holds_every_subjects_own_patches_in_order(cohort, tmp_path):
    seen = []
    store = build_store(cohort, SPEC, tmp_path / "s", seed=3, progress=lambda *now: seen.append(now))
    assert seen == [(i, 20) for i in range(1, 21)]
    assert (store.n_subjects, store.per_subject, store.n_patches, store.spec) == (20, 5, 100, SPEC)
    patches = content(store)
    assert patches.shape == (100, 2, 8, 12)
    for i in (0, 7, 19):
        name = int.from_bytes(hashlib.sha256(f"mayer{i}".encode()).digest()[:8], "big")
        own = cut_patches(load_subject(cohort.subjects[i], SPEC), SPEC, dice([3, name]))
        assert np.array_equal(patches[5 * i : 5 * i + 5], own.astype(np.float16))
        assert np.abs(patches[5 * i : 5 * i + 5] - own).max() <= 2**-12  # half a step of float16 below 1


def test_a_subjects_patches_do_not_depend_on_others_nor_on_threads(cohort, tmp_path, monkeypatch):
    whole = content(build_store(cohort, SPEC, tmp_path / "s", seed=3))
    monkeypatch.setattr(store_module, "THREADS", 1)
    half = content(build_store(Cohort(cohort.subjects[10:]), SPEC, tmp_path / "t", seed=3))
    assert np.array_equal(whole[50:], half)
    assert not np.array_equal(whole, content(build_store(cohort, SPEC, tmp_path / "u", seed=4)))


def test_a_bag_holds_distinct_flipped_patches_of_one_subject(cohort, tmp_path):
    store = build_store(cohort, SPEC, tmp_path / "s", seed=0)
    stored = torch.from_numpy(content(store).astype(np.float32))
    rng, seen = dice(), set()
    for _ in range(40):
        bag = store.bag(4, 3, rng)
        assert bag.dtype == torch.float32
        check_patches(bag, SPEC)
        found = [
            (i, flip)
            for patch in bag
            for i in range(20, 25)
            for flip, turned in enumerate(flips(stored[i]))
            if torch.equal(patch, turned)
        ]
        assert len({i for i, _ in found}) == 3  # each is one of the subject's five, none twice
        seen.update(found)
    # 120 draws of 5 x 4 kinds: one kind stays away with chance 20 * 0.95 ** 120 = 4 %; this seed sees all.
    assert len(seen) == 20
    assert not torch.equal(store.bag(4, 3, rng), store.bag(4, 3, rng))
    assert torch.equal(store.bag(4, 3, dice(1)), store.bag(4, 3, dice(1)))


def test_a_patch_by_number_and_a_sample_of_all(cohort, tmp_path):
    store = build_store(cohort, SPEC, tmp_path / "s", seed=0)
    stored = torch.from_numpy(content(store).astype(np.float32))
    assert any(torch.equal(store.patch(99, dice()), turned) for turned in flips(stored[99]))
    # Sums do not change by a flip: they tell which patches came, each once.
    every = store.sample(100, dice()).double().sum((1, 2, 3)).sort().values
    assert torch.allclose(every, stored.double().sum((1, 2, 3)).sort().values, atol=1e-4)
    assert store.sample(101, dice()).shape == (101, 2, 8, 12)


def test_3d_patches_are_flipped_along_three_axes(tmp_path):
    index = Index(
        format=1, key="0" * 64, spec=PatchSpec(size=(8, 8, 8), per_subject=1), spec_digest="", n_subjects=1,
        patches=f"patches-{'0' * 16}.npy",
    )  # fmt: skip
    one = dice().random((1, 2, 8, 8, 8)).astype(np.float16)
    store = PatchStore(index, one)
    seen = {store.bag(0, 1, rng).numpy().tobytes() for rng in map(dice, range(60))}
    axes = [tuple(2 + a for a in range(3) if kind >> a & 1) for kind in range(8)]
    assert seen == {np.flip(one, turned).astype(np.float32).tobytes() for turned in axes}


def test_what_is_not_in_the_store_is_refused(cohort, tmp_path):
    store = build_store(Cohort(cohort.subjects[:2]), SPEC, tmp_path / "s", seed=0)
    for subject, k in [(2, 1), (-1, 1), (0, 6), (0, 0)]:
        with pytest.raises(ValueError, match="got"):
            store.bag(subject, k, dice())
    for number in (-1, 10):
        with pytest.raises(ValueError, match="flat_index"):
            store.patch(number, dice())
    with pytest.raises(ValueError, match="at least 1"):
        store.sample(0, dice())
