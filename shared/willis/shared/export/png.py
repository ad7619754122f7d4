"""Labelled patches as grey PNG pictures, with a table of them and of what their grey means."""

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from willis.shared.errors import ReleaseError
from willis.shared.export.whole_folder import whole_folder
from willis.shared.patch import LabelledPatches, PatchSpec

_COLUMNS = ("pair", "channel", "image", "label", "value_at_0", "white", "value_at_white")


def write_png(
    batches: Iterable[LabelledPatches],
    folder: Path,
    *,
    spec: PatchSpec,
    about: Mapping[str, object],
    bits: Literal[8, 16] = 8,
) -> Path:
    """Write ``images/``, ``labels/``, ``index.csv`` and ``privacy.txt`` into a new folder; 2-D pairs only.

    Every image channel is a grey picture of its own: black (0) is -1 and white (255 or 65535) is 1, what lies
    between is rounded to the nearest grey, so a value is off by at most 1 / white. Labels are 0 or 255. A row
    of ``index.csv`` is one channel of one pair, with that scale.

    Args:
        batches: Patches as a release draws them; one batch is in memory at a time.
        folder: Must not exist, or be empty.
        spec: Of the patches.
        about: Written to ``privacy.txt``, a line each: privacy, where the patches come from.
        bits: Of a pixel of an image.

    Returns:
        The folder.

    Raises:
        ValueError: ``bits`` is neither 8 nor 16.
        ReleaseError: The patches are volumes.
        StateError: The folder is not empty or cannot be written; nothing is left there.
    """
    if bits not in (8, 16):
        raise ValueError(f"bits must be 8 or 16, got {bits}")
    if spec.dimensions != 2:
        size = " x ".join(str(side) for side in spec.size)
        raise ReleaseError(f"png holds 2-D pairs and this release draws {size}; take nnunet, bids or npz")
    with whole_folder(folder) as part:
        (part / "images").mkdir()
        (part / "labels").mkdir()
        with (part / "index.csv").open("w", encoding="utf-8", newline="") as table:
            rows = csv.writer(table, lineterminator="\n")
            rows.writerow(_COLUMNS)
            n = 0
            for batch in batches:
                for patch in batch.numpy():
                    rows.writerows(_save_pair(patch, part, n, spec=spec, white=2**bits - 1))
                    n += 1
        lines = "".join(f"{name}: {value}\n" for name, value in about.items())
        (part / "privacy.txt").write_text(lines, encoding="utf-8")
    return folder


def _save_pair(patch: np.ndarray, part: Path, n: int, *, spec: PatchSpec, white: int) -> list[list[object]]:
    label = f"labels/syn_{n:06d}.png"
    Image.fromarray(np.where(patch[-1] > 0, 255, 0).astype(np.uint8)).save(part / label)
    grey = np.round((patch[:-1].astype(np.float64) + 1) / 2 * white)
    rows = []
    for number, (channel, picture) in enumerate(zip(spec.channels, grey, strict=True)):
        image = f"images/syn_{n:06d}_{number:04d}.png"
        Image.fromarray(picture.astype(np.uint8 if white == 255 else np.uint16)).save(part / image)
        rows.append([n, channel.value, image, label, -1, white, 1])
    return rows
