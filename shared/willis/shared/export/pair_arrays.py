"""Images and labels as one compressed NumPy file: never all of them in memory, and no torch."""

import json
import shutil
import tempfile
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO

import numpy as np
from jaxtyping import Float, Integer
from numpy import ndarray

from willis.shared.export.whole_folder import whole_folder

Images = Float[ndarray, "pair channel *space"]
Labels = Integer[ndarray, "pair *space"]
ArrayPairs = tuple[Images, Labels]

_FILE = "pairs.npz"
_BESIDE = "pairs.privacy.txt"
_EPOCH = (1980, 1, 1, 0, 0, 0)  # a zip's earliest: the same bytes for the same pairs


def write_pair_arrays(
    batches: Iterable[ArrayPairs],
    folder: Path,
    *,
    n: int,
    shape: tuple[int, ...],
    about: Mapping[str, object],
) -> Path:
    """Write ``pairs.npz`` into a new folder, and ``pairs.privacy.txt`` beside it: ``about``, a line each.

    The first holds ``images`` (float32, (n, channel, *space), -1 to 1), ``labels`` (uint8, (n, *space), 0 or
    1) and ``about`` (a JSON text, as an array without axes).

    Args:
        batches: Images and labels, n in all; one batch is in memory at a time.
        folder: Must not exist, or be empty. Needs room for the labels uncompressed while it is written.
        n: How many pairs come.
        shape: Of one image: channels, then pixels along each axis.
        about: Privacy, where the pairs come from.

    Returns:
        The file.

    Raises:
        ValueError: Not n pairs came.
        StateError: The folder is not empty or cannot be written; nothing is left there.
    """
    with (
        whole_folder(folder) as part,
        tempfile.TemporaryFile(dir=part) as labels,
        zipfile.ZipFile(part / _FILE, "w", compression=zipfile.ZIP_DEFLATED) as archive,
    ):
        with _entry(archive, "images") as entry:
            _header(entry, np.dtype("<f4"), (n, *shape))
            came = 0
            for some_images, some_labels in batches:
                entry.write(np.ascontiguousarray(some_images, dtype="<f4").tobytes())
                labels.write(some_labels.astype(np.uint8).tobytes())
                came += len(some_images)
        if came != n:
            raise ValueError(f"{n} pairs were promised, {came} came")
        labels.seek(0)
        with _entry(archive, "labels") as entry:
            _header(entry, np.dtype("u1"), (n, *shape[1:]))
            shutil.copyfileobj(labels, entry)
        with _entry(archive, "about") as entry:
            np.lib.format.write_array(entry, np.array(json.dumps(dict(about))), allow_pickle=False)
        lines = "".join(f"{name}: {value}\n" for name, value in about.items())
        (part / _BESIDE).write_text(lines, encoding="utf-8")
    return folder / _FILE


def _entry(archive: zipfile.ZipFile, name: str) -> IO[bytes]:
    info = zipfile.ZipInfo(f"{name}.npy", date_time=_EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    return archive.open(info, "w", force_zip64=True)


def _header(entry: IO[bytes], kind: np.dtype, shape: tuple[int, ...]) -> None:
    fields = {"descr": np.lib.format.dtype_to_descr(kind), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(entry, fields)
