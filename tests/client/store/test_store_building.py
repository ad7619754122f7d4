"""Building a patch store: reuse, rebuilding, a kill, a full disk; no pseudonym in it."""

import errno
import json
import os
import re
import resource
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
from harness.made_store import SPEC, content
from PIL import Image

from willis.client import store as store_module
from willis.client.cohort import Cohort
from willis.client.store import build_store, open_store
from willis.shared.errors import CohortError, StateError
from willis.shared.patch import PatchSpec


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
