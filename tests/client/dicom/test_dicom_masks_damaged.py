"""A damaged or dishonest segmentation is refused with words of ours: no crash, no hang, nothing quoted."""

import traceback
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from harness.made_dicom import ANATOMY, Made, encode, seg, series
from harness.made_masks import DIGESTS, changed, grid_of, vessel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.labels import MaskFault, MaskRefused, label_from_seg

PLANTED = "Musterfrau^Erika"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small series."""
    return series(tmp_path_factory.mktemp("series"), deidentified=False)


@pytest.fixture(scope="module")
def sound(made: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its mask, with a name planted where text may stand, its own file name too."""
    folder = tmp_path_factory.mktemp("sound")
    path = seg(folder, made, vessel(made), segments=[(PLANTED, ANATOMY)], name=f"{PLANTED}.dcm")
    return changed(path, path.name, lambda item: setattr(item, "ContentLabel", PLANTED))


def refused(path: Path, made: Made) -> MaskRefused:
    """Return the refusal, once nothing of the file is found in it or in what led to it."""
    with pytest.raises(MaskRefused) as caught:
        label_from_seg(path, grid_of(made), pseudonyms=DIGESTS)
    told = "".join(traceback.format_exception(caught.value)[-1:])
    assert caught.value.__context__ is None or caught.value.__suppress_context__
    assert not any(
        word in told for word in ("Musterfrau", "Erika", made.series, made.study, str(path.parent))
    )
    return caught.value


def first(item: Dataset) -> Dataset:
    """Return the functional groups of the first frame."""
    return item.PerFrameFunctionalGroupsSequence[0]


def lacking(*keywords: str) -> Callable[[Dataset], None]:
    """Return a change that takes elements out, wherever among the functional groups they stand."""

    def change(item: Dataset) -> None:
        places = [item, *item.SharedFunctionalGroupsSequence, *item.PerFrameFunctionalGroupsSequence]
        for place in places:
            for keyword in keywords:
                if keyword in place:
                    del place[keyword]

    return change


def more_frames(item: Dataset) -> None:
    item.NumberOfFrames = 2_000_000_000


def one_frame_less(item: Dataset) -> None:
    item.NumberOfFrames -= 1


def short_pixels(item: Dataset) -> None:
    item.PixelData = item.PixelData[:-4]


def long_pixels(item: Dataset) -> None:
    item.PixelData += b"\0\0\0\0"


def wide(item: Dataset) -> None:
    item.Rows = item.Columns = 65535


def unknown_number(item: Dataset) -> None:
    groups = item.SharedFunctionalGroupsSequence[0]
    groups = groups if "SegmentIdentificationSequence" in groups else first(item)
    groups.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 7


def position_of_two(item: Dataset) -> None:
    first(item).PlanePositionSequence[0].ImagePositionPatient = [1, 2]


def position_infinite(item: Dataset) -> None:
    first(item).PlanePositionSequence[0].ImagePositionPatient = ["1e308", "1e308", "-1e308"]


def no_positions(item: Dataset) -> None:
    lacking("PlanePositionSequence")(item)


def nested_in_itself(item: Dataset) -> None:
    """Put functional groups within functional groups, twelve deep."""
    inner = Dataset()
    for _ in range(12):
        outer = Dataset()
        outer.PerFrameFunctionalGroupsSequence = [inner]
        inner = outer
    item.PerFrameFunctionalGroupsSequence = [inner]
    item.NumberOfFrames = 1


def two_of_one_number(item: Dataset) -> None:
    item.SegmentSequence = [item.SegmentSequence[0], item.SegmentSequence[0]]


def repeated(item: Dataset) -> None:
    groups = item.PerFrameFunctionalGroupsSequence
    groups[1].PlanePositionSequence = groups[0].PlanePositionSequence


DAMAGE = {
    more_frames: MaskFault.DAMAGED,
    one_frame_less: MaskFault.DAMAGED,
    short_pixels: MaskFault.DAMAGED,
    long_pixels: MaskFault.DAMAGED,
    wide: MaskFault.OTHER_GRID,
    unknown_number: MaskFault.DAMAGED,
    position_of_two: MaskFault.DAMAGED,
    position_infinite: MaskFault.OTHER_GRID,
    no_positions: MaskFault.DAMAGED,
    nested_in_itself: MaskFault.DAMAGED,
    two_of_one_number: MaskFault.DAMAGED,
    repeated: MaskFault.REPEATED_FRAME,
    lacking("PixelMeasuresSequence"): MaskFault.DAMAGED,
    lacking("PlaneOrientationSequence"): MaskFault.DAMAGED,
    lacking("SegmentIdentificationSequence"): MaskFault.DAMAGED,
    lacking("SharedFunctionalGroupsSequence"): MaskFault.DAMAGED,
    lacking("PerFrameFunctionalGroupsSequence"): MaskFault.TILED,
    lacking("SegmentSequence"): MaskFault.NO_SEGMENT,
    lacking("PixelData"): MaskFault.DAMAGED,
    lacking("SegmentationType"): MaskFault.DAMAGED,
    lacking("Rows"): MaskFault.DAMAGED,
}


@pytest.mark.parametrize(("change", "fault"), DAMAGE.items())
def test_damaged(made: Made, sound: Path, change: Callable[[Dataset], None], fault: MaskFault) -> None:
    assert refused(changed(sound, "damaged.dcm", change), made).fault == fault


def test_fraction_above_full(tmp_path: Path, made: Made) -> None:
    path = seg(tmp_path, made, vessel(made).astype(float), kind="FRACTIONAL")
    path = changed(path, "above.dcm", lambda item: setattr(item, "MaximumFractionalValue", 100))
    assert refused(path, made).fault == MaskFault.DAMAGED


def test_value_without_segment(tmp_path: Path, made: Made) -> None:
    path = seg(tmp_path, made, vessel(made), kind="LABELMAP")

    def change(item: Dataset) -> None:
        pixels = np.array(item.pixel_array)
        pixels[0, 0, 0] = 9
        item.PixelData = pixels.astype(np.uint8).tobytes()

    assert refused(changed(path, "nine.dcm", change), made).fault == MaskFault.DAMAGED


def test_corrupt_compressed_frame(tmp_path: Path, made: Made) -> None:
    path = seg(tmp_path, made, vessel(made), kind="LABELMAP")
    encode([path], uid.RLELossless)
    raw = path.read_bytes()
    path.write_bytes(raw[:-200] + b"\xff" * 40 + raw[-160:])
    assert refused(path, made).fault == MaskFault.DAMAGED


@pytest.mark.parametrize(
    ("syntax", "fault"), [(uid.JPEGBaseline8Bit, MaskFault.LOSSY), ("1.2.3", MaskFault.SYNTAX)]
)
def test_syntax(made: Made, sound: Path, syntax: str, fault: MaskFault) -> None:
    raw = sound.read_bytes().replace(b"1.2.840.10008.1.2.1\0", syntax.encode().ljust(20, b"\0")[:20], 1)
    path = sound.with_name("syntax.dcm")
    path.write_bytes(raw)
    refusal = refused(path, made)
    assert refusal.fault == fault or syntax != "1.2.3"


@pytest.mark.parametrize("raw", [b"", b"\0" * 500, b"DICM", b"\xff" * 4096, PLANTED.encode() * 50])
def test_no_dicom(tmp_path: Path, made: Made, raw: bytes) -> None:
    path = tmp_path / "x.dcm"
    path.write_bytes(raw)
    assert refused(path, made).fault in (MaskFault.DAMAGED, MaskFault.NOT_A_MASK)


@settings(max_examples=120, deadline=None, suppress_health_check=tuple(HealthCheck.__members__.values()))
@given(
    cut=st.none() | st.floats(0, 1),
    bytes_changed=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), max_size=6),
)
def test_mutated_is_refused_or_read(
    made: Made, sound: Path, cut: float | None, bytes_changed: list[tuple[float, int]]
) -> None:
    raw = bytearray(sound.read_bytes())
    for place, value in bytes_changed:
        raw[int(place * (len(raw) - 1))] = value
    path = sound.with_name(f"{PLANTED}-mutated.dcm")
    path.write_bytes(bytes(raw if cut is None else raw[: int(cut * len(raw))]))
    try:
        label = label_from_seg(path, grid_of(made), pseudonyms=DIGESTS)
    except MaskRefused as refusal:
        assert "Erika" not in str(refusal)  # noqa: PT017
    else:
        assert label.shape == grid_of(made).shape
        assert set(np.unique(label)) == {0, 1}


def test_nothing_is_printed_or_logged(
    made: Made, sound: Path, capfd: pytest.CaptureFixture, caplog: pytest.LogCaptureFixture,
    recwarn: pytest.WarningsRecorder,
) -> None:  # fmt: skip
    raw = sound.read_bytes()
    path = sound.with_name("printed.dcm")
    for size in range(200, len(raw), 997):
        path.write_bytes(raw[:size])
        refused(path, made)
    assert (capfd.readouterr(), caplog.records, list(recwarn)) == (("", ""), [], [])
