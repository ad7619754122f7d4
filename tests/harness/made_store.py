"""Subjects on disk of whom a patch store is built, and what the store then holds."""

from pathlib import Path

import numpy as np
from harness.made_patches import dice
from PIL import Image

from willis.client.cohort import Scan, Subject
from willis.client.store import Index, PatchStore
from willis.shared.patch import PatchSpec

SPEC = PatchSpec(size=(8, 12), per_subject=5)


def write_subject(folder: Path, name: str, seed: int) -> Subject:
    values = dice(seed).integers(0, 256, (20, 24), dtype=np.uint8)
    for stem, pixels in [
        (f"{name}.png", values),
        (f"{name}_mask.png", (values > 200).astype(np.uint8) * 255),
    ]:
        Image.fromarray(pixels).save(folder / stem)
    return Subject(name, "site-a", (Scan(folder / f"{name}.png", folder / f"{name}_mask.png"),))


def content(store: PatchStore) -> np.ndarray:
    return np.array(np.load(store_file(store.index, store)))


def store_file(index: Index, store: PatchStore) -> Path:
    assert isinstance(store._patches, np.memmap)
    path = Path(str(store._patches.filename))
    assert path.name == index.patches
    return path
