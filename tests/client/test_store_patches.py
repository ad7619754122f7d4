"""The patch store: what comes out is what was cut; reuse, rebuilding, a full disk, flat memory."""

import errno
import hashlib
import json
import os
import re
import resource
import tracemalloc
from collections import namedtuple
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from willis.client import store as store_module
from willis.client.cohort import Cohort, Scan, Subject
from willis.client.patches import cut_patches, load_subject
from willis.client.store import Index, PatchStore, build_store, open_store
from willis.shared.errors import CohortError, StateError
from willis.shared.patch import PatchSpec, check_patches

SPEC = PatchSpec(size=(8, 12), per_subject=5)


def dice(seed: int | list[int] = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def write_subject(folder: Path, name: str, seed: int) -> Subject:
    values = dice(seed).integers(0, 256, (20, 24), dtype=np.uint8)
    for stem, pixels in [
        (f"{name}.png", values),
        (f"{name}_mask.png", (values > 200).astype(np.uint8) * 255),
    ]:
        Image.fromarray(pixels).save(folder / stem)
    return Subject(name, "site-a", (Scan(folder / f"{name}.png", folder / f"{name}_mask.png"),))


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    (tmp_path / "scans").mkdir()
    return Cohort(tuple(write_subject(tmp_path / "scans", f"mayer{i}", i) for i in range(20)))


def content(store: PatchStore) -> np.ndarray:
    return np.array(np.load(store_file(store.index, store)))


def store_file(index: Index, store: PatchStore) -> Path:
    assert isinstance(store._patches, np.memmap)
    path = Path(str(store._patches.filename))
    assert path.name == index.patches
    return path


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


def test_a_fitting_store_is_reused_and_any_change_rebuilds(cohort, tmp_path):
    cohort = Cohort(cohort.subjects[:3])
    folder, calls = tmp_path / "s", []

    def build(cohort=cohort, spec=SPEC, seed=0) -> bool:
        calls.clear()
        store = build_store(cohort, spec, folder, seed=seed, progress=lambda *now: calls.append(now))
        assert open_store(folder).index == store.index
        assert len(list(folder.iterdir())) == 2
        return bool(calls)

    assert build()
    assert not build()
    assert build(seed=1)
    assert build(spec=PatchSpec(size=(8, 12), per_subject=4))
    assert build()
    label = cohort.subjects[0].scans[0].label
    os.utime(label, ns=(1, 1))
    assert build()
    renamed = (replace(cohort.subjects[0], name="huber"), *cohort.subjects[1:])
    assert build(cohort=Cohort(renamed))


def test_a_half_written_store_is_no_store_and_is_rebuilt(cohort, tmp_path):
    cohort, folder = Cohort(cohort.subjects[:3]), tmp_path / "s"
    store = build_store(cohort, SPEC, folder, seed=0)
    good, path = content(store), folder / store.index.patches
    broken = {
        "index gone": lambda: (folder / "index.json").unlink(),
        "index cut": lambda: os.truncate(folder / "index.json", 40),
        "patches gone": path.unlink,
        "patches cut": lambda: os.truncate(path, path.stat().st_size - 2),
        "patches empty": lambda: os.truncate(path, 0),
        "other shape": lambda: np.save(path, good[:1]),
        "other type": lambda: np.save(path, good.astype(np.float32)),
        "other format": lambda: (folder / "index.json").write_text(
            json.dumps(store.index.model_dump(mode="json") | {"format": 99})
        ),
    }
    for damage in broken.values():
        damage()
        (folder / "patches.part").write_bytes(b"half")
        with pytest.raises(StateError, match="build it again"):
            open_store(folder)
        assert np.array_equal(content(build_store(cohort, SPEC, folder, seed=0)), good)
        assert not (folder / "patches.part").exists()


def test_killed_at_any_instant_there_is_a_whole_store_or_none(cohort, tmp_path):
    cohort, folder = Cohort(cohort.subjects[:6]), tmp_path / "s"
    old = content(build_store(cohort, SPEC, folder, seed=0))

    class Killed(BaseException):
        """Stands for kill -9 between two subjects."""

    def stop(done: int, _all: int) -> None:
        if done == 4:
            raise Killed

    with pytest.raises(Killed):
        build_store(cohort, SPEC, folder, seed=1, progress=stop)
    assert np.array_equal(content(open_store(folder)), old)
    assert len(list(folder.iterdir())) == 2


def test_a_disk_that_runs_full_while_writing_leaves_nothing_half_written(cohort, tmp_path):
    # The operating system itself refuses to let any file of this process grow past 8 kB.
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8192, before[1]))
    try:
        with pytest.raises(StateError, match="cannot write the patch store"):
            build_store(cohort, SPEC, tmp_path / "s", seed=0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list((tmp_path / "s").iterdir()) == []


def test_too_little_space_is_told_before_anything_is_cut(cohort, tmp_path, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda _: usage(100))
    with pytest.raises(StateError, match=r"needs 3\.84e-05 GB"):
        build_store(cohort, SPEC, tmp_path / "s", seed=0)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_a_state_error(cohort, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match=os.strerror(errno.ENOTDIR)):
        build_store(cohort, SPEC, tmp_path / "file" / "s", seed=0)


def test_all_unusable_subjects_are_told_at_once_and_no_store_is_left(cohort, tmp_path):
    for i in (3, 11):
        Image.fromarray(np.full((20, 24), 9, np.uint8)).save(cohort.subjects[i].scans[0].image)
    with pytest.raises(CohortError, match="2 of 20 subjects") as error:
        build_store(cohort, SPEC, tmp_path / "s", seed=0)
    assert [re.findall(r"mayer\d+", problem) for problem in error.value.problems] == [["mayer3"], ["mayer11"]]
    assert list((tmp_path / "s").iterdir()) == []
    with pytest.raises(CohortError, match="at least one subject"):
        build_store(Cohort(()), SPEC, tmp_path / "s", seed=0)


def test_no_pseudonym_and_no_path_is_written_to_the_store(cohort, tmp_path):
    store = build_store(cohort, SPEC, tmp_path / "s", seed=0)
    for path in (tmp_path / "s").iterdir():
        content = path.read_bytes()
        assert b"mayer" not in content
        assert str(tmp_path).encode() not in content
    assert "mayer" not in repr(store)


def anonymous_memory() -> int:
    """Bytes of this process that are not pages of a file."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.findall(r"RssAnon:\s+(\d+)", status)[0])


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory is read from /proc, which is not here"
)
def test_memory_stays_flat_over_ten_thousand_subjects(tmp_path):
    spec = PatchSpec(size=(16, 16), per_subject=16)
    index = Index(
        format=1, key="0" * 64, spec=spec, spec_digest=spec.digest(), n_subjects=10_000,
        patches=f"patches-{'0' * 16}.npy",
    )  # fmt: skip
    file = np.lib.format.open_memmap(tmp_path / index.patches, mode="w+", dtype="<f2", shape=index.shape)
    file[::97] = 0.5
    del file
    (tmp_path / "index.json").write_text(index.model_dump_json())
    size = (tmp_path / index.patches).stat().st_size
    assert size > 160e6
    store, rng = open_store(tmp_path), dice()
    store.bag(0, 16, rng)
    before = anonymous_memory()
    tracemalloc.start()
    for subject in range(0, 10_000, 9):
        store.bag(subject, 16, rng)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1e6
    assert anonymous_memory() - before < 8e6


def test_building_reads_ahead_by_a_fixed_number_of_subjects(cohort, tmp_path, monkeypatch):
    cut, written = [], []
    genuine = store_module._subject_patches
    monkeypatch.setattr(
        store_module,
        "_subject_patches",
        lambda subject, *rest: cut.append(subject) or genuine(subject, *rest),
    )
    ahead = []
    build_store(
        cohort, SPEC, tmp_path / "s", seed=0,
        progress=lambda done, _: ahead.append(len(cut) - done) or written.append(done),
    )  # fmt: skip
    assert max(ahead) <= store_module.WINDOW
    assert len(cut) == len(written) == 20
