"""Collected pairs as one NumPy file, as ``willis synthesize --format npz`` writes them, without torch."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

import numpy as np

from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.export.whole_folder import whole_folder

_FILE, _BESIDE = "pairs.npz", "pairs.privacy.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: the same bytes for the same pairs


def write_pairs(
    pairs: RemotePairs, folder: Path, *, n: int, seed: int, progress: Callable[[int], None]
) -> Path:
    """Write ``pairs.npz`` into a new folder, and ``pairs.privacy.txt`` beside it, whole or not at all.

    The first holds ``images`` (float32, (n, channel, *space), -1 to 1), ``labels`` (uint8, (n, *space), 0 or
    1) and ``about`` (a JSON text); one batch is in memory at a time.

    Args:
        pairs: Where they come from.
        folder: Must not exist, or be empty.
        n: How many come.
        seed: Of the draw, for ``about``.
        progress: Gets the number of pairs that came.

    Returns:
        The file.

    Raises:
        StateError: The folder is not empty or cannot be written; nothing is left there.
        WillisError: As iterating over :class:`RemotePairs`.
    """
    about = _about(pairs, n=n, seed=seed)
    shape = pairs.described.image_shape
    with (
        whole_folder(folder) as part,
        tempfile.TemporaryFile(dir=part) as labels,
        zipfile.ZipFile(part / _FILE, "w", compression=zipfile.ZIP_DEFLATED) as archive,
    ):
        with _entry(archive, "images") as entry:
            _header(entry, np.dtype("<f4"), (n, *shape))
            came = 0
            for some_images, some_labels in pairs:
                entry.write(np.ascontiguousarray(some_images, "<f4").tobytes())
                labels.write(some_labels.astype(np.uint8).tobytes())
                came += len(some_images)
                progress(came)
        labels.seek(0)
        with _entry(archive, "labels") as entry:
            _header(entry, np.dtype("u1"), (n, *shape[1:]))
            shutil.copyfileobj(labels, entry)
        with _entry(archive, "about") as entry:
            np.lib.format.write_array(entry, np.array(json.dumps(dict(about))), allow_pickle=False)
        lines = "".join(f"{name}: {value}\n" for name, value in about.items())
        (part / _BESIDE).write_text(lines, encoding="utf-8")
    return folder / _FILE


def _about(pairs: RemotePairs, *, n: int, seed: int) -> Mapping[str, object]:
    told = pairs.described
    study = f"a generator of study {told.study}"
    return {
        "description": f"Synthetic: {n} pairs drawn at a hub with seed {seed} from {study}",
        "privacy": told.privacy,
        "release": told.signed.digest,
    }


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)


def _header(entry: IO[bytes], kind: np.dtype, shape: tuple[int, ...]) -> None:
    fields = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, fields)
