"""Headers of an export a second: a site's scan beside pydicom's plain loop and dcm2niix, on the same folder.

A scan does more than to read: it walks without following links, asks of every attribute whether it names
somebody, makes keyed digests, and keeps an index that a next scan goes on from. pydicom's loop keeps nothing.
dcm2niix is asked for series -1: it reads every header and lists the series, and converts none.
"""

import shutil
import statistics
import tempfile
from pathlib import Path

from willis.simulations.benchmarks.intake_export import SIDE, attributes, make_export
from willis.simulations.benchmarks.intake_ways import AGAIN, DCM2NIIX, PYDICOM, SCANS, Walked, walk
from willis.simulations.benchmarks.report import Measured

_COLUMNS = ("files", "way", "seconds", "files a second", "memory MB", "worker MB")
_QUICK, _FULL = ((500, 1), (5_000, 1)), ((10_000, 3), (100_000, 1))  # files of each export, repeats


def run(quick: bool = False) -> Measured:
    """Measure 10,000 files three times and 100,000 once; ``quick`` takes 500 and 5,000, once."""
    exports = _QUICK if quick else _FULL
    repeats = " and ".join(f"{n} (of {size:,} files)" for size, n in exports)
    how = (
        f"Headers of an export on disk, just written and so in the page cache; {attributes()} attributes and "
        f"{SIDE}x{SIDE} pixels a file. Medians of alternating repeats, {repeats}, each way in a process of "
        "its own, whose start counts for dcm2niix alone. Memory: the most that the process had; worker: that "
        "of the largest process under it. Willis: scan with deid = require, its index included; nothing new: "
        "the same once more. dcm2niix -n -1 reads every header, lists the series, converts none. MB is 10^6."
    )
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for size, n in exports:
            rows += _measure(Path(folder).resolve() / str(size), size, n)
    return Measured("intake", how, _COLUMNS, rows)


def _measure(folder: Path, size: int, repeats: int) -> list[list]:
    export, index = folder / "export", folder / "index"
    make_export(export, size)
    taken: dict[str, list[Walked]] = {}
    for _ in range(repeats):
        for way in (*SCANS, AGAIN, PYDICOM, DCM2NIIX):
            if way in SCANS:
                index.unlink(missing_ok=True)
            taken.setdefault(way, []).append(walk(way, export, index))
    shutil.rmtree(folder)
    return [[size, *_row(way, walks, size)] for way, walks in taken.items()]


def _row(way: str, walks: list[Walked], size: int) -> list:
    seconds, memory, below = (
        statistics.median(getattr(one, name) for one in walks)
        for name in ("seconds", "memory", "worker_memory")
    )
    return [way, seconds, round(size / seconds), memory / 1e6, below / 1e6 if below else "-"]
