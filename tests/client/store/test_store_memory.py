"""The patch store needs flat memory, to read and to build."""

import re
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from harness.made_patches import dice
from harness.made_store import SPEC

from willis.client import store as store_module
from willis.client.store import Index, build_store, open_store
from willis.shared.patch import PatchSpec


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
