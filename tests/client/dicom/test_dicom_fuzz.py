"""Files mutated at random, ten thousand of them: each is read, left, or refused with a message, and soon.

Headers and bytes are changed: bits, runs, lengths, values, the end cut off, pieces of other files put in.
Power: a fault that one mutation in a thousand brings out is missed with probability 0.999 ** 10000 < 5e-5.
"""

import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from harness.made_dicom import Made, compress, deflate, enhanced, seg, series
from pydicom import dcmread, uid

from willis.client.ingest.dicom.apart import Apart
from willis.client.ingest.dicom.grid import Grid
from willis.client.ingest.dicom.header import read_instance
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.instance import Instance, Left
from willis.client.ingest.dicom.seg_label import label_from_seg
from willis.client.ingest.dicom.stacks import Stack, stacks
from willis.client.ingest.dicom.voxels import volume_of
from willis.shared.errors import CohortError

CASES, GROUPS = 10_000, 10
PATIENCE_S = 20
SMALL = (8, 10, 12)
KEY = bytes(range(32))
HOSTILE = (
    b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\x7f\xff\xff\xff", b"\x00" * 8, b"\xff" * 8,
    b"1e999", b"nan ",
    b"-0", b"9" * 16,
    b"SQ\x00\x00\xff\xff\xff\xff", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", b"OW\x00\x00",
)  # fmt: skip


class TooLong(Exception):
    pass


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Made]:
    """Exports of several kinds; every one is whole."""
    root = tmp_path_factory.mktemp("sources")
    made = {
        "plain": series(root / "plain", shape=SMALL),
        "rle": series(root / "rle", shape=SMALL),
        "lossless": series(root / "lossless", shape=SMALL),
        "deflated": series(root / "deflated", shape=SMALL),
        "enhanced": enhanced(root / "enhanced", shape=SMALL),
    }
    compress(made["rle"].paths, uid.RLELossless)
    compress(made["lossless"].paths, uid.JPEGLosslessSV1)
    deflate(made["deflated"].paths)
    return made


@pytest.fixture(scope="module")
def masks(sources, tmp_path_factory) -> list[Path]:
    folder = tmp_path_factory.mktemp("masks")
    made = sources["plain"]
    mask = (made.voxels > np.quantile(made.voxels, 0.9)).astype(np.uint8)
    kinds = ("BINARY", "FRACTIONAL", "LABELMAP")
    return [
        seg(folder, made, mask.astype(float) if kind == "FRACTIONAL" else mask, kind=kind, name=f"{kind}.dcm")
        for kind in kinds
    ]


def mutated(data: bytes, dice: np.random.Generator, other: bytes) -> bytes:
    """Return bytes changed in one to four places; more often in the header than in the pixels."""
    out = bytearray(data)
    for _ in range(int(dice.integers(1, 5))):
        reach = len(out) if dice.random() < 0.3 else min(len(out), 1600)
        if reach < 2:
            break
        at = int(dice.integers(0, reach))
        how = int(dice.integers(0, 7))
        if how == 0:
            out[at] ^= 1 << int(dice.integers(0, 8))
        elif how == 1:
            out[at] = int(dice.integers(0, 256))
        elif how == 2:
            del out[at:]
        elif how == 3:
            del out[at : at + int(dice.integers(1, 40))]
        elif how == 4:
            out[at:at] = dice.bytes(int(dice.integers(1, 40)))
        elif how == 5:
            piece = HOSTILE[int(dice.integers(0, len(HOSTILE)))]
            out[at : at + len(piece)] = piece
        else:
            start = int(dice.integers(0, max(1, len(other) - 64)))
            out[at : at + 64] = other[start : start + 64]
    return bytes(out)


def read(path: Path, name: str) -> Instance | Left:
    return read_instance(path, name, pseudonyms=Pseudonyms(KEY), deid="site-local")


def whole_way(found: Instance, path: Path, made: Made, apart: Apart) -> str:
    """Take a mutated instance all the way with its whole neighbours; return how it ended."""
    paths = {f"whole-{n}": other for n, other in enumerate(made.paths) if other.name != path.name}
    others = [read(other, name) for name, other in paths.items()]
    members = [found, *(one for one in others if isinstance(one, Instance))]
    paths[found.file] = path
    ended = []
    for one in stacks(members, least_slices=4, digest=lambda each: each.uid):
        if not isinstance(one, Stack):
            assert one.code
            assert one.sentence
            ended.append("refused")
            continue
        try:
            image, affine = volume_of(one, paths, apart=apart)
        except CohortError as refusal:
            ended.append("unreadable" if str(refusal) else "without a word")
        else:
            assert image.dtype == np.float32
            assert np.isfinite(image).all()
            assert np.isfinite(affine).all()
            ended.append("volume")
    return "+".join(sorted(ended))


@pytest.fixture(scope="module")
def apart() -> Iterator[Apart]:
    """Where codecs decode: some damage ends them."""
    with Apart(patience_s=PATIENCE_S / 2) as one:
        yield one


@pytest.fixture
def alarm():
    """Ends what takes longer than it may."""

    def ring(*_):
        raise TooLong

    before = signal.signal(signal.SIGALRM, ring)
    yield lambda: signal.alarm(PATIENCE_S)
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("group", range(GROUPS))
def test_a_mutated_file_is_read_left_or_refused(group, sources, masks, tmp_path, alarm, apart):
    dice = np.random.default_rng([5, group])
    room = tmp_path / "room"
    room.mkdir()
    made = list(sources.values())
    sources_of = [(one, path) for one in made for path in one.paths] + [(None, path) for path in masks]
    whole = {path: path.read_bytes() for _, path in sources_of}
    seen: Counter[str] = Counter()
    slowest = 0.0
    for _ in range(CASES // GROUPS):
        one, source = sources_of[int(dice.integers(0, len(sources_of)))]
        other = whole[sources_of[int(dice.integers(0, len(sources_of)))][1]]
        path = room / source.name
        path.write_bytes(mutated(whole[source], dice, other))
        began = time.monotonic()
        alarm()
        found = read(path, "mutated")
        if isinstance(found, Left):
            seen[f"left {found.code}"] += 1
        elif one is None:
            seen[_label(path)] += 1
        else:
            seen[whole_way(found, path, one, apart)] += 1
        slowest = max(slowest, time.monotonic() - began)
        path.unlink()
    assert list(room.iterdir()) == []
    assert sorted(item.name for item in tmp_path.iterdir()) == ["room"], "nothing was written elsewhere"
    assert not any("without a word" in how for how in seen)
    assert len(seen) >= 5, f"the mutations reach too little: {seen}"
    assert slowest < PATIENCE_S


def _label(path: Path) -> str:
    grid = Grid((12, 10, 8), np.diag([-0.4, -0.5, 0.7, 1.0]), "frame", "series")
    try:
        label_from_seg(path, grid, pseudonyms=Pseudonyms(KEY))
    except CohortError as refusal:
        return f"mask {type(refusal).__name__}" if str(refusal) else "without a word"
    return "mask taken"


def test_the_sources_are_whole(sources, masks, apart):
    for made in sources.values():
        found = read(made.paths[0], "x")
        assert isinstance(found, Instance)
        assert whole_way(found, made.paths[0], made, apart) == "volume"
    assert all(dcmread(path).pixel_array.size for path in masks)
