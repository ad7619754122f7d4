"""Masks on other voxels of the same frame of reference: placed exactly, or refused; the real export."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import highdicom
import numpy as np
import pytest
from harness.made_dicom import ANATOMY, ARTERY, OBLIQUE, Made, made_uid, seg, series
from harness.made_masks import DIGESTS, changed, grid_of, on_image, vessel
from pydicom import dcmread
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.labels import Grid, MaskFault, MaskRefused, label_from_seg
from willis.client.ingest.dicom.seg_file import FRAME_OF_REFERENCE, SERIES


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A small oblique series."""
    return series(tmp_path_factory.mktemp("series"), direction=OBLIQUE)


def seg_of_volume(folder: Path, made: Made, turn: Callable[[highdicom.Volume], highdicom.Volume]) -> Path:
    """Write a mask that highdicom holds on another grid than its image's."""
    image = highdicom.get_volume_from_series([highdicom.imread(one) for one in made.paths])
    if not np.array_equal(image.array, made.voxels):
        image = image.flip_spatial(0)  # highdicom orders slices against their normal
    assert np.array_equal(image.array, made.voxels)
    mask = turn(image.with_array(vessel(made)))
    algorithm = highdicom.AlgorithmIdentificationSequence("made", ANATOMY, "1")
    described = [highdicom.seg.SegmentDescription(1, "Artery", ANATOMY, ARTERY, "AUTOMATIC", algorithm)]
    item = highdicom.seg.Segmentation(
        [dcmread(one) for one in made.paths], mask, "BINARY", described, made_uid("seg"), 99,
        made_uid("one"), 1, "made", "made", "1", "1",
    )  # fmt: skip
    item.save_as(folder / "placed.dcm")
    return folder / "placed.dcm"


def got(path: Path, made: Made) -> np.ndarray:
    """Return the label on the made series' grid."""
    return label_from_seg(path, grid_of(made), pseudonyms=DIGESTS)


def fault(path: Path, made: Made) -> MaskFault:
    """Return why a mask is refused."""
    with pytest.raises(MaskRefused) as caught:
        got(path, made)
    return caught.value.fault


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_flipped_is_placed(tmp_path: Path, made: Made, axis: int) -> None:
    path = seg_of_volume(tmp_path, made, lambda mask: mask.flip_spatial(axis))
    assert np.array_equal(got(path, made), on_image(made, vessel(made)))


@pytest.mark.parametrize("axes", [(1, 2, 0), (2, 0, 1), (0, 2, 1)])
def test_cut_along_another_axis_is_placed(tmp_path: Path, axes: tuple[int, int, int]) -> None:
    made = series(tmp_path / "cube", spacing=(0.5, 0.5, 0.5), direction=OBLIQUE)
    path = seg_of_volume(tmp_path, made, lambda mask: mask.permute_spatial_axes(axes))
    assert np.array_equal(got(path, made), on_image(made, vessel(made)))


def cropped(mask: highdicom.Volume, part: Any) -> highdicom.Volume:
    return mask[part]


def test_cropped_is_placed(tmp_path: Path, made: Made) -> None:
    path = seg_of_volume(tmp_path, made, lambda mask: cropped(mask, np.s_[2:9, 3:17, 1:20]))
    inside = np.zeros_like(vessel(made))
    inside[2:9, 3:17, 1:20] = vessel(made)[2:9, 3:17, 1:20]
    assert np.array_equal(got(path, made), on_image(made, inside))


def test_larger_than_the_image_is_refused(tmp_path: Path, made: Made) -> None:
    path = seg_of_volume(tmp_path, made, lambda mask: mask.pad([[0, 0], [0, 1], [0, 0]]))
    assert fault(path, made) == MaskFault.OTHER_GRID


def shifted(by: float) -> Callable[[Dataset], None]:
    """Return a change that moves every frame along its first pixel's row, in mm."""

    def change(item: Dataset) -> None:
        for groups in item.PerFrameFunctionalGroupsSequence:
            place = groups.PlanePositionSequence[0]
            moved = np.array(place.ImagePositionPatient, float) + by * np.array(OBLIQUE[:3])
            place.ImagePositionPatient = [f"{one:.10g}" for one in moved]

    return change


@pytest.mark.parametrize(
    ("by", "fits"), [(0.4, True), (-0.4, True), (0.01, True), (0.03, False), (0.2, False)]
)
def test_shifted(tmp_path: Path, by: float, fits: bool) -> None:
    made = series(tmp_path / "s", direction=OBLIQUE)  # a column is 0.4 mm
    crop = np.s_[:, :, 2:-2]
    path = seg_of_volume(tmp_path, made, lambda mask: cropped(mask, crop))
    path = changed(path, "shifted.dcm", shifted(by))
    if not fits:
        assert fault(path, made) == MaskFault.OTHER_GRID
        return
    inside = np.zeros_like(vessel(made))
    inside[crop] = vessel(made)[crop]
    expected = np.roll(inside, round(by / 0.4), axis=2)
    assert np.array_equal(got(path, made), on_image(made, expected))


@pytest.mark.parametrize("factor", [2.0, 0.5, 1.01])
def test_other_spacing_is_refused(tmp_path: Path, made: Made, factor: float) -> None:
    def change(item: Dataset) -> None:
        measures = item.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        measures.PixelSpacing = [float(one) * factor for one in measures.PixelSpacing]

    path = seg_of_volume(tmp_path, made, lambda mask: cropped(mask, np.s_[:, :8, :8]))
    assert fault(changed(path, "spaced.dcm", change), made) == MaskFault.OTHER_GRID


def test_turned_in_plane_is_refused(tmp_path: Path, made: Made) -> None:
    def change(item: Dataset) -> None:
        item.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0].ImageOrientationPatient = [
            1, 0, 0, 0, 1, 0,
        ]  # fmt: skip

    path = changed(seg(tmp_path, made, vessel(made)), "turned.dcm", change)
    assert fault(path, made) == MaskFault.OTHER_GRID


def test_every_other_slice_is_refused_and_two_lesions_are_not(tmp_path: Path, made: Made) -> None:
    comb = np.zeros(made.voxels.shape, np.uint8)
    comb[1:9:2, 3:6, 3:6] = 1
    assert fault(seg(tmp_path, made, comb), made) == MaskFault.GAPS
    comb[[3, 5]] = 0
    assert np.array_equal(got(seg(tmp_path, made, comb), made), on_image(made, comb))


def test_real_export(tmp_path: Path, real_data: Path) -> None:
    folder = real_data / "dicom_export_aera15T"
    if not folder.is_dir():
        pytest.skip("no real export of DICOM files")
    items = [dcmread(path) for path in sorted(folder.iterdir())]
    groups: dict[str, list[Dataset]] = {}
    for item in items:
        groups.setdefault(item.SeriesInstanceUID, []).append(item)
    tof = next(one for one in groups.values() if abs(float(one[0].PixelSpacing[0]) - 0.39) < 0.01)
    image = highdicom.get_volume_from_series(tof)
    mask = np.asarray(image.array > np.quantile(image.array, 0.97))
    mask[1] = mask[-2] = False  # frames that are left out
    path = seg_of_real(tmp_path, tof, image.with_array(mask.astype(np.uint8)))
    ras = image.with_array(mask.astype(np.uint8)).to_patient_orientation("RAH")
    grid = Grid(
        shape=(ras.shape[0], ras.shape[1], ras.shape[2]),
        affine=np.diag([-1.0, -1.0, 1.0, 1.0]) @ ras.affine,
        frame_of_reference=DIGESTS.of(FRAME_OF_REFERENCE, tof[0].FrameOfReferenceUID),
        series=DIGESTS.of(SERIES, tof[0].SeriesInstanceUID),
    )
    assert np.array_equal(label_from_seg(path, grid, pseudonyms=DIGESTS), ras.array)


def seg_of_real(folder: Path, tof: list[Dataset], mask: highdicom.Volume) -> Path:
    """Write a mask of the real series, with neither name nor date."""
    algorithm = highdicom.AlgorithmIdentificationSequence("made", ANATOMY, "1")
    described = [highdicom.seg.SegmentDescription(1, "Artery", ANATOMY, ARTERY, "AUTOMATIC", algorithm)]
    item = highdicom.seg.Segmentation(
        tof, mask, "BINARY", described, made_uid("seg"), 99, made_uid("real"), 1, "made", "made", "1", "1"
    )
    for keyword, value in (("PatientName", ""), ("PatientBirthDate", ""), ("PatientIdentityRemoved", "YES")):
        setattr(item, keyword, value)
    item.save_as(folder / "real.dcm")
    return folder / "real.dcm"
