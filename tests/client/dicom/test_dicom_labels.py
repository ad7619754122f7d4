"""A segmentation comes back on the voxels of its image, or is refused; one label of several."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import highdicom
import numpy as np
import pytest
from harness.made_dicom import AXIAL, CORONAL, OBLIQUE, SAGITTAL, Made, encode, rtstruct, seg, series
from harness.made_masks import DIGESTS, changed, grid_of, on_image, vessel
from highdicom.sr.coding import CodedConcept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.orientations import apply_orientation, io_orientation
from pydicom import dcmread, uid
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.labels import MaskFault, MaskRefused, label_from_seg, label_of

VEIN = CodedConcept("29092000", "SCT", "Vein")
ARTERY = CodedConcept("51114001", "SCT", "Artery")
TWO = (("Artery", ARTERY), ("Vein", VEIN))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small oblique series."""
    return series(tmp_path_factory.mktemp("series"), direction=OBLIQUE)


def got(path: Path, made: Made, *segments: str) -> np.ndarray:
    """Return the label on the made series' grid."""
    return label_from_seg(path, grid_of(made), segments=segments, pseudonyms=DIGESTS)


def stored(mask: np.ndarray, kind: str) -> np.ndarray:
    """Return a mask as highdicom takes it for a kind of segmentation."""
    return mask.astype(np.float64) if kind == "FRACTIONAL" else mask


def refused(path: Path, made: Made, *segments: str) -> MaskRefused:
    """Return the refusal."""
    with pytest.raises(MaskRefused) as caught:
        got(path, made, *segments)
    return caught.value


@pytest.mark.parametrize("direction", [AXIAL, SAGITTAL, CORONAL, OBLIQUE])
@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_mask_comes_back_on_its_voxels(tmp_path: Path, direction: tuple, kind: str) -> None:
    made = series(tmp_path / "s", direction=direction)
    mask = vessel(made)
    found = got(seg(tmp_path, made, stored(mask, kind), kind=kind), made)
    assert found.dtype == np.uint8
    assert np.array_equal(found, on_image(made, mask))


@pytest.mark.parametrize(
    ("kind", "syntax"),
    [
        ("BINARY", uid.DeflatedExplicitVRLittleEndian),
        ("BINARY", uid.ExplicitVRBigEndian),
        ("LABELMAP", uid.DeflatedExplicitVRLittleEndian),
        ("FRACTIONAL", uid.RLELossless),
        ("FRACTIONAL", uid.JPEG2000Lossless),
        ("FRACTIONAL", uid.JPEGLSLossless),
        ("FRACTIONAL", uid.JPEGLosslessSV1),
        ("LABELMAP", uid.RLELossless),
        ("LABELMAP", uid.JPEGLSLossless),
    ],
)
def test_compressed(tmp_path: Path, kind: str, syntax: str) -> None:
    made = series(tmp_path / "s", shape=(12, 34, 37), direction=OBLIQUE)
    mask = vessel(made)
    path = seg(tmp_path, made, stored(mask, kind), kind=kind)
    encode([path], syntax)
    assert dcmread(path).file_meta.TransferSyntaxUID == syntax
    assert np.array_equal(got(path, made), on_image(made, mask))


@pytest.mark.parametrize("shape", [(12, 11, 1), (12, 7, 3), (12, 5, 13)])
def test_frames_that_start_within_a_byte(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    made = series(tmp_path / "s", shape=shape)
    mask = np.random.default_rng(1).integers(0, 2, shape).astype(np.uint8)
    mask[:, 0] = 0
    mask[:, 1, 0] = 1
    mask[:, -5:] &= mask[::-1, -5:] & (np.arange(12) % 3 > 0)[:, None, None].astype(np.uint8)
    assert np.array_equal(got(seg(tmp_path, made, mask), made), on_image(made, mask))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    axes=st.permutations(range(3)),
    flips=st.tuples(*[st.sampled_from([1, -1])] * 3), tilt=st.floats(-0.4, 0.4),
    seed=st.integers(0, 99), kind=st.sampled_from(["BINARY", "LABELMAP"]), dense=st.booleans(),
)  # fmt: skip
def test_any_orientation(
    tmp_path_factory: pytest.TempPathFactory, axes: list[int], flips: tuple[int, int, int], tilt: float,
    seed: int, kind: str, dense: bool,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("any")
    turn = np.eye(3)[:, axes] * flips
    lean = np.array([[np.cos(tilt), -np.sin(tilt), 0], [np.sin(tilt), np.cos(tilt), 0], [0, 0, 1]])
    cosines = lean @ turn
    made = series(folder / "s", shape=(9, 8, 10), direction=(*cosines[:, 0], *cosines[:, 1]), seed=seed)
    mask = vessel(made, seed=seed)
    path = seg(folder, made, mask, kind=kind, omit_empty_frames=not dense)
    order = np.random.default_rng(seed).permutation(
        len(mask) if dense else np.count_nonzero(mask.any((1, 2)))
    )
    path = changed(path, "mixed.dcm", lambda item: shuffle(item, order))
    assert np.array_equal(got(path, made), on_image(made, mask))


def shuffle(item: Dataset, order: np.ndarray) -> None:
    """Put the frames of an uncompressed segmentation in another order."""
    pixels = item.pixel_array.reshape(len(order), -1)[order]
    groups = list(item.PerFrameFunctionalGroupsSequence)
    item.PerFrameFunctionalGroupsSequence = [groups[one] for one in order]
    bits = item.BitsAllocated == 1
    raw = np.packbits(pixels.ravel(), bitorder="little").tobytes() if bits else pixels.tobytes()
    item.PixelData = raw + b"\0" * (len(raw) % 2)


@pytest.mark.parametrize("direction", [AXIAL, SAGITTAL, OBLIQUE])
def test_highdicom_finds_the_same(tmp_path: Path, direction: tuple) -> None:
    made = series(tmp_path / "s", direction=direction)
    path = seg(tmp_path, made, vessel(made))
    image = highdicom.get_volume_from_series([highdicom.imread(one) for one in made.paths])
    theirs = highdicom.seg.segread(path).get_volume(combine_segments=True).match_geometry(image)
    affine = np.diag([-1, -1, 1, 1]) @ theirs.affine
    assert np.array_equal(got(path, made), apply_orientation(theirs.array, io_orientation(affine)))


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_segments_by_label_or_code_overlapping(tmp_path: Path, made: Made, kind: str) -> None:
    both = np.stack([vessel(made, seed=1), vessel(made, seed=2)], axis=-1)
    path = seg(tmp_path, made, stored(both, kind), kind=kind, segments=TWO)
    first, second = (on_image(made, both[..., one]) for one in (0, 1))
    assert (first & second).any()
    assert np.array_equal(got(path, made, "Artery"), first)
    assert np.array_equal(got(path, made, " artery "), first)
    assert np.array_equal(got(path, made, "SCT:29092000"), second)
    assert np.array_equal(got(path, made, "SRT:T-41000"), first)  # SNOMED RT's code of an artery
    assert np.array_equal(got(path, made, "Artery", "SCT:29092000"), first | second)
    assert np.array_equal(got(path, made), first | second)


def test_segments_of_a_label_map(tmp_path: Path, made: Made) -> None:
    mask = vessel(made)
    mask[5] *= 2
    path = seg(tmp_path, made, mask, kind="LABELMAP", segments=TWO)
    assert np.array_equal(got(path, made, "Vein"), on_image(made, (mask == 2).astype(np.uint8)))
    assert np.array_equal(got(path, made), on_image(made, (mask > 0).astype(np.uint8)))


@pytest.mark.parametrize("word", ["Capillary", "SCT:1", "MADE:51114001", "Erika"])
def test_unknown_segment_counts_and_names_none(tmp_path: Path, made: Made, word: str) -> None:
    path = seg(tmp_path, made, vessel(made), segments=[("Musterfrau", ARTERY)])
    refusal = refused(path, made, word)
    assert refusal.fault == MaskFault.UNKNOWN_SEGMENT
    assert "of 1 segments" in str(refusal)
    assert "Musterfrau" not in str(refusal)


def test_fractions_count_from_a_half_on(tmp_path: Path, made: Made) -> None:
    parts = np.zeros(made.voxels.shape)
    parts[4, 3, 2:7] = [0.2, 0.498, 0.5, 0.502, 1.0]
    for full in (2, 100, 255):
        path = seg(
            tmp_path, made, parts, kind="FRACTIONAL", max_fractional_value=full, fractional_type="OCCUPANCY"
        )
        # What the file holds is the fraction rounded to its steps: 1 of 2, 50 of 100, 127 or 128 of 255.
        stored = np.around(parts * full)
        assert np.array_equal(got(path, made), on_image(made, (stored >= full / 2).astype(np.uint8)))


def test_another_studys_mask_is_refused(tmp_path: Path, made: Made) -> None:
    other = series(tmp_path / "other", direction=OBLIQUE, study="other")
    assert refused(seg(tmp_path, other, vessel(other)), made).fault == MaskFault.OTHER_SERIES


def test_another_frame_of_reference_is_refused(tmp_path: Path, made: Made) -> None:
    path = seg(tmp_path, made, vessel(made))
    for value in ("1.2.3", "", None):

        def change(item: Dataset, value: str | None = value) -> None:
            if value is None:
                del item.FrameOfReferenceUID
            else:
                item.FrameOfReferenceUID = value

        assert refused(changed(path, "f.dcm", change), made).fault == MaskFault.OTHER_FRAME


def test_no_series_named_is_refused(tmp_path: Path, made: Made) -> None:
    path = seg(tmp_path, made, vessel(made))
    path = changed(path, "n.dcm", lambda item: delattr(item, "ReferencedSeriesSequence"))
    assert refused(path, made).fault == MaskFault.NO_SERIES


def test_empty_and_too_large(tmp_path: Path, made: Made) -> None:
    full = np.ones(made.voxels.shape, np.uint8)
    assert refused(seg(tmp_path, made, full), made).fault == MaskFault.TOO_LARGE
    path = seg(tmp_path, made, full * 0, omit_empty_frames=False)
    assert refused(path, made).fault == MaskFault.EMPTY
    half = np.zeros_like(full)
    half[:6] = 1
    assert got(seg(tmp_path, made, half), made).sum() * 2 == half.size


def test_contours_are_refused_with_a_hint(tmp_path: Path, made: Made) -> None:
    refusal = refused(rtstruct(tmp_path, made), made)
    assert refusal.fault == MaskFault.RTSTRUCT
    assert all(name in str(refusal) for name in ("dcmrtstruct2nii", "plastimatch convert", "3D Slicer"))


def test_an_image_is_no_mask(made: Made) -> None:
    assert refused(made.paths[0], made).fault == MaskFault.NOT_A_MASK


@pytest.fixture
def choice(tmp_path: Path, made: Made) -> SimpleNamespace:
    """Two masks of the image, older and newer, and one of another series."""
    other = series(tmp_path / "other", direction=OBLIQUE, series="other")
    masks = [vessel(made, seed=one) for one in (1, 2)]
    older, newer = (seg(tmp_path, made, mask, name=f"{n}.dcm") for n, mask in enumerate(masks))
    dated = {"20240101": older, "20240301": newer}
    for date, path in dated.items():
        changed(path, path.name, set_date(date))
    return SimpleNamespace(
        older=older, newer=newer, masks=masks, other=seg(tmp_path, other, masks[0], name="o.dcm")
    )


def set_date(date: str) -> Callable[[Dataset], None]:
    """Return a change of the content's date and time."""

    def change(item: Dataset) -> None:
        item.ContentDate, item.ContentTime = date, "120000"

    return change


def test_exactly_one_fits(made: Made, choice: SimpleNamespace) -> None:
    found = label_of([choice.other, choice.older], grid_of(made), pseudonyms=DIGESTS)
    assert (found.taken, found.refused) == (1, ((0, MaskFault.OTHER_SERIES),))
    assert np.array_equal(found.voxels, on_image(made, choice.masks[0]))


def test_several_fit(made: Made, choice: SimpleNamespace) -> None:
    paths = [choice.older, choice.other, choice.newer]
    with pytest.raises(MaskRefused, match="more than one") as caught:
        label_of(paths, grid_of(made), pseudonyms=DIGESTS)
    assert caught.value.fault == MaskFault.SEVERAL
    for order in (paths, paths[::-1]):
        found = label_of(order, grid_of(made), pseudonyms=DIGESTS, several="newest")
        assert order[found.taken] == choice.newer
        assert np.array_equal(found.voxels, on_image(made, choice.masks[1]))


def test_newest_must_be_told_and_must_fit(tmp_path: Path, made: Made, choice: SimpleNamespace) -> None:
    twin = changed(choice.newer, "twin.dcm", lambda item: None)
    undated = changed(choice.newer, "undated.dcm", lambda item: delattr(item, "ContentDate"))
    broken = changed(choice.newer, "broken.dcm", lambda item: setattr(item, "PixelData", b"\0\0"))
    for paths, fault in (
        ([choice.newer, twin], MaskFault.SEVERAL),
        ([choice.newer, undated], MaskFault.SEVERAL),
        ([choice.older, broken], MaskFault.DAMAGED),
        ([choice.other], MaskFault.OTHER_SERIES),
        ([choice.other, choice.other], MaskFault.NONE_FITS),
        ([tmp_path / "absent"], MaskFault.MISSING),
        ([], MaskFault.MISSING),
    ):
        with pytest.raises(MaskRefused) as caught:
            label_of(paths, grid_of(made), pseudonyms=DIGESTS, several="newest")
        assert caught.value.fault == fault
