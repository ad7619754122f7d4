"""One tiny phantom cohort and one tiny study, for every room."""

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from willis.shared.prior.draw import draw_subject
from willis.shared.prior.families import Family
from willis.shared.settings import parse
from willis.shared.study import Study

torch.set_num_threads(1)  # test machines share cores; two threads on one core are slower than one

TINY = {
    "name": "tiny",
    "seed": 1,
    "patch": {"size": [16, 16], "per_subject": 4, "foreground_share": 0.5},
    "prior": {"family": "vessels"},
    "networks": {"latent": 8, "generator_width": 4, "critic_width": 4, "depth": 2},
    "privacy": {
        "unit": "subject",
        "epsilon": 8.0,
        "delta": 1e-3,
        "clip_norm": 1.0,
        "sampling_rate": 0.5,
    },
    "training": {
        "rounds": 3,
        "critic_steps": 2,
        "critic_per_generator": 1,
        "patches_per_bag": 2,
        "fakes": 4,
        "device": "cpu",
    },
    "federation": {
        "quorum": 2,
        "deadline_s": 60,
        "sites": [{"name": "site-a", "subjects": 6}, {"name": "site-b", "subjects": 6}],
    },
    "use": {"synthetic_pairs": 16, "held_out": 0.2, "unet_steps": 2, "unet_batch": 4, "unet_width": 4},
}


def merged(values: dict, changes: dict) -> dict:
    """Return nested values with changes in their place."""
    out = dict(values)
    for key, change in changes.items():
        out[key] = merged(out.get(key, {}), change) if isinstance(change, dict) else change
    return out


@pytest.fixture(scope="session")
def tiny_study() -> Callable[..., Study]:
    """Build the tiny study, with changes: ``tiny_study(training={"rounds": 1})``."""
    return lambda **changes: parse(merged(TINY, changes), Study, where="tiny")


def inline(value: object) -> str:
    """Return a value as it stands on the right of a key in TOML."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {inline(one)}" for key, one in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(inline(one) for one in value) + "]"
    return json.dumps(value)


@pytest.fixture(scope="session")
def tiny_study_file_in() -> Callable[..., Path]:
    """Write the tiny study, with changes, as TOML into a folder; returns its path."""

    def write(folder: Path, **changes: object) -> Path:
        lines = [f"{key} = {inline(value)}" for key, value in merged(TINY, changes).items()]
        path = folder / "study.toml"
        path.write_text("\n".join(lines) + "\n")
        return path

    return write


@pytest.fixture
def tiny_study_file(tmp_path: Path, tiny_study_file_in: Callable[..., Path]) -> Callable[..., Path]:
    """Write the tiny study, with changes, as TOML; returns its path."""
    return partial(tiny_study_file_in, tmp_path)


@pytest.fixture
def phantom_cohort(tmp_path: Path, phantom_cohort_in: Callable[..., Path]) -> Callable[..., Path]:
    """Write a cohort of phantom pictures; returns its table."""
    return partial(phantom_cohort_in, tmp_path)


@pytest.fixture(scope="session")
def phantom_cohort_in() -> Callable[..., Path]:
    """Write a cohort of phantom pictures into a folder; returns its table."""

    def write(
        place: Path, *, subjects: int = 8, sites: tuple[str, ...] = ("site-a", "site-b"), side: int = 24
    ) -> Path:
        folder = place / "export"
        folder.mkdir(exist_ok=True)
        lines = ["subject,site,image,label"]
        for number, site in enumerate(site for site in sites for _ in range(subjects)):
            image, label = draw_subject(
                Family.VESSELS, size=(side, side), generator=np.random.default_rng(number)
            )
            for kind, pixels in (("image", np.clip(image, 0, 65535).astype(np.uint16)), ("label", label)):
                Image.fromarray(pixels).save(folder / f"p{number}_{kind}.png")
            lines.append(f"p{number},{site},p{number}_image.png,p{number}_label.png")
        table = folder / "cohort.csv"
        table.write_text("\n".join(lines) + "\n")
        return table

    return write


@pytest.fixture
def keys_by_round(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every ledger key one of site and round, so that two runs can be compared bit for bit."""
    fix_keys(monkeypatch)


def fix_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """See :func:`keys_by_round`; the same keys as ``federation/fixed_noise`` gives to processes."""
    from willis.client import ledger

    work, honest = threading.local(), ledger.Ledger.reserve

    class Keys:
        def urandom(self, size: int) -> bytes:
            return hashlib.sha256(work.name.encode()).digest()[:size]

        def __getattr__(self, name: str) -> object:
            return getattr(os, name)

    def reserve(self: ledger.Ledger, *, purpose: str, **rest: Any) -> ledger.Reservation:
        work.name = f"{self._path.parent.name}/{purpose.rpartition('/')[2]}"
        return honest(self, purpose=purpose, **rest)

    monkeypatch.setattr(ledger, "os", Keys())
    monkeypatch.setattr(ledger.Ledger, "reserve", reserve)


@pytest.fixture(scope="module")
def keys_by_round_for_module() -> Iterator[None]:
    """As ``keys_by_round``, for a whole module."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        fix_keys(monkeypatch)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of the real scans; the test skips where they are absent."""
    folder = Path(os.environ.get("WILLIS_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (folder / "README.md").exists():
        pytest.skip(f"no real scans at {folder}; set WILLIS_DATA to their folder")
    return folder
