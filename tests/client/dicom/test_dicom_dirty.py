"""Dirty exports that give the right volume, or several; the refused ones are in ``test_dicom_refused``."""

import shutil

import numpy as np
import pytest
from harness.made_dicom import OBLIQUE, SAGITTAL, enhanced, made_uid, series
from harness.made_scan import PAT, SERIES, Scanned, change, is_made, only_volume
from pydicom import dcmread, uid


def test_a_copy_of_a_file_is_dropped_and_counted(tmp_path):
    made = series(tmp_path / "a")
    shutil.copy(made.paths[4], tmp_path / "copy.dcm")
    scanned = only_volume(tmp_path, made)
    assert [one.duplicates for one in scanned.found()] == [1]


def test_the_same_picture_under_another_uid_is_dropped_and_counted(tmp_path):
    made = series(tmp_path / "a")
    for n in (1, 2):
        shutil.copy(made.paths[4], tmp_path / f"copy{n}.dcm")
        change(tmp_path / f"copy{n}.dcm", SOPInstanceUID=made_uid("other"))
    scanned = only_volume(tmp_path, made)
    assert [one.duplicates for one in scanned.found()] == [2]


def test_two_echoes_are_two_volumes(tmp_path):
    first = series(tmp_path, echo=3.0, seed=1)
    second = series(tmp_path, echo=5.0, seed=2, SOPInstanceUID=lambda k: made_uid("echo", k))
    volumes, refused = Scanned(tmp_path).outcome()
    assert refused == {}
    is_made(volumes[SERIES], first)
    is_made(volumes[f"{SERIES}-2"], second)


@pytest.mark.parametrize(
    "split",
    [
        {"TemporalPositionIdentifier": 2},
        {"DiffusionBValue": 1000.0},
        {"ImageType": ["ORIGINAL", "PRIMARY", "P"]},
        {"AcquisitionNumber": 2},
    ],
    ids=["temporal", "b-value", "phase", "acquisition"],
)
def test_what_tells_two_volumes_of_a_series_apart(tmp_path, split):
    first = series(tmp_path, seed=1, TemporalPositionIdentifier=1, DiffusionBValue=0.0)
    both = {"TemporalPositionIdentifier": 1, "DiffusionBValue": 0.0, **split}
    second = series(tmp_path, seed=2, SOPInstanceUID=lambda k: made_uid("second", k), **both)
    volumes, refused = Scanned(tmp_path).outcome()
    assert refused == {}
    assert len(volumes) == 2
    wanted = [first, second]
    for volume in volumes.values():
        low = volume[0].min()
        is_made(volume, min(wanted, key=lambda made: abs(float(made.voxels.min()) - low)))
    assert {float(volume[0].sum()) for volume in volumes.values()} == {
        float(made.voxels.sum()) for made in wanted
    }


def test_series_mixed_in_one_folder(tmp_path):
    made = [series(tmp_path, series=f"s{n}", number=n, seed=n, direction=OBLIQUE) for n in (1, 2, 3)]
    volumes, refused = Scanned(tmp_path).outcome()
    assert refused == {}
    for n, one in enumerate(made, 1):
        is_made(volumes[f"{PAT}/study-1/series-{n}"], one)


def test_series_with_one_number_get_two_names(tmp_path):
    for n in range(2):
        series(tmp_path, series=f"s{n}", number=3)
    assert set(Scanned(tmp_path).outcome()[0]) == {SERIES, f"{SERIES}-2"}


def test_studies_are_numbered_by_date(tmp_path):
    series(tmp_path, study="later", StudyDate="20240301")
    first = series(tmp_path, study="earlier", StudyDate="20230301", seed=4)
    volumes, _ = Scanned(tmp_path).outcome()
    assert set(volumes) == {SERIES, f"{PAT}/study-2/series-3"}
    is_made(volumes[SERIES], first)


@pytest.mark.parametrize(
    "tags",
    [
        {"InstanceNumber": lambda k: (k * 7) % 12 + 1},
        {"InstanceNumber": lambda k: 12 - k},
        {"InstanceNumber": None},
        {"InstanceNumber": 1},
        {"SpacingBetweenSlices": "21.7"},
        {"SliceThickness": "99"},
        {"SliceLocation": lambda k: str(-k)},
        {"AcquisitionNumber": lambda k: k % 2},
        {"PatientName": "Müller^Jürgen", "StudyDescription": "長い"},
    ],
    ids=[
        "shuffled",
        "reversed",
        "no-number",
        "one-number",
        "between",
        "thickness",
        "location",
        "interleaved",
        "text",
    ],
)
def test_a_header_that_misleads_does_not(tmp_path, tags):
    only_volume(tmp_path, series(tmp_path, direction=OBLIQUE, **tags))


def test_a_localizer_within_is_refused_alone(tmp_path):
    made = series(tmp_path / "a")
    series(
        tmp_path / "b", shape=(3, 20, 24), direction=SAGITTAL, SOPInstanceUID=lambda k: made_uid("scout", k)
    )
    volumes, refused = Scanned(tmp_path).outcome()
    assert list(refused.values()) == ["too-few-slices"]
    is_made(next(iter(volumes.values())), made)


@pytest.mark.parametrize(
    ("tags", "code"),
    [
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localizer"),
        ({"ImageType": ["DERIVED", "SECONDARY", "PROJECTION IMAGE", "MIP"]}, "projection"),
        ({"SOPClassUID": uid.SecondaryCaptureImageStorage}, "secondary-capture"),
        ({"SOPClassUID": uid.PositronEmissionTomographyImageStorage}, "no-image"),
        ({"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3}, "photometric"),
    ],
    ids=["localizer", "mip", "capture", "other-class", "rgb"],
)
def test_a_page_beside_the_images_is_refused_alone(tmp_path, tags, code):
    made = series(tmp_path / "a")
    series(tmp_path / "b", shape=(1, 20, 24), SOPInstanceUID=made_uid("page"), **tags)
    volumes, refused = Scanned(tmp_path).outcome()
    assert list(refused.values()) == [code]
    is_made(next(iter(volumes.values())), made)


def test_grids_of_two_sizes_are_two_volumes(tmp_path):
    series(tmp_path, shape=(12, 20, 24))
    series(tmp_path, shape=(12, 10, 12), SOPInstanceUID=lambda k: made_uid("small", k))
    volumes, refused = Scanned(tmp_path).outcome()
    assert refused == {}
    assert sorted(volume[0].shape for volume in volumes.values()) == [(12, 10, 12), (24, 20, 12)]


def test_files_that_are_no_dicom_beside(tmp_path):
    made = series(tmp_path / "Ünïcode 長い" / "Müller^Jürgen", names="IM0001")
    (tmp_path / "Thumbs.db").write_bytes(b"\xd0\xcf\x11\xe0" + bytes(500))
    (tmp_path / "readme.txt").write_text("Musterfrau")
    (tmp_path / "empty.dcm").touch()
    assert len(only_volume(tmp_path, made).left) == 3


def test_the_same_slope_for_every_slice_or_its_own(tmp_path):
    made = series(tmp_path, RescaleSlope=lambda k: str(1 + k), RescaleIntercept=lambda k: str(-10 * k))
    k = np.arange(12).reshape(-1, 1, 1)
    only_volume(tmp_path, made, values=made.voxels.astype(np.float64) * (1 + k) - 10 * k)


def test_ct_is_in_hounsfield_units(tmp_path):
    made = series(tmp_path, modality="CT")
    only_volume(tmp_path, made, values=made.voxels.astype(np.float64) - 1024)


def test_padding_takes_the_lowest_value_of_the_image(tmp_path):
    made = series(tmp_path, signed=True)
    made.voxels[:, :3] = -2000
    for path, plane in zip(made.paths, made.voxels, strict=True):
        item = dcmread(path)
        item.PixelData = plane.tobytes()
        item.add_new("PixelPaddingValue", "SS", -2000)
        item.save_as(path, enforce_file_format=True)
    lowest = made.voxels[made.voxels != -2000].min()
    only_volume(tmp_path, made, values=np.where(made.voxels == -2000, lowest, made.voxels))


@pytest.mark.parametrize("options", [{"signed": True}, {"bits": 8}, {"bits": 12}], ids=["signed", "8", "12"])
def test_depths_of_pixels(tmp_path, options):
    only_volume(tmp_path, series(tmp_path, **options))


@pytest.mark.parametrize(
    "syntax",
    [
        uid.ExplicitVRBigEndian, uid.DeflatedExplicitVRLittleEndian, uid.RLELossless, uid.JPEGLossless,
        uid.JPEGLosslessSV1, uid.JPEGLSLossless, uid.JPEG2000Lossless,
    ],
    ids=["big-endian", "deflated", "rle", "57", "70", "jpeg-ls", "j2k"],
)  # fmt: skip
@pytest.mark.parametrize("options", [{}, {"signed": True}, {"bits": 8}], ids=["unsigned", "signed", "8"])
def test_lossless_syntaxes_are_bit_exact(tmp_path, syntax, options):
    only_volume(tmp_path, series(tmp_path, shape=(9, 20, 24), syntax=syntax, direction=OBLIQUE, **options))


@pytest.mark.parametrize("legacy", [False, True], ids=["enhanced", "legacy"])
@pytest.mark.parametrize("order", [None, (3, 1, 11, 0, 2, 10, 9, 5, 8, 7, 6, 4)], ids=["sorted", "shuffled"])
def test_frames_of_an_enhanced_file_in_any_order(tmp_path, legacy, order):
    only_volume(tmp_path, enhanced(tmp_path, legacy=legacy, order=order, direction=OBLIQUE))
