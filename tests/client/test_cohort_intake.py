"""Every fault by its name; every row accounted for; damaged files are refused, never crash."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from nibabel.nifti1 import Nifti1Image
from nibabel.orientations import aff2axcodes
from PIL import Image

from willis.client.cli import cohort as cohort_command
from willis.client.cohort import read_cohort
from willis.client.ingest.check import Fault, _row_faults, check_cohort
from willis.client.ingest.picture import read_picture
from willis.client.ingest.table import COLUMNS, Row, Table, read_table
from willis.client.ingest.volume import open_volume
from willis.shared.errors import CohortError

GRADIENT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
MASK = (GRADIENT > 20).astype(np.uint8)


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    Nifti1Image(values, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def png(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def table(folder: Path, *rows: str, header: str = "subject,site,image,label") -> Path:
    path = folder / "cohort.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    nifti(tmp_path / "image.nii.gz", GRADIENT)
    nifti(tmp_path / "label.nii.gz", MASK)
    nifti(tmp_path / "image2.nii.gz", GRADIENT + 1)
    nifti(tmp_path / "label2.nii.gz", MASK)
    return tmp_path


def faults(path: Path) -> list[set[Fault]]:
    intake = check_cohort(path)
    assert len(intake.accepted) + len(intake.refused) == len(intake.rows) == len(read_table(path).rows)
    return [{reason.fault for reason in checked.reasons} for checked in intake.rows]


def test_sound_rows_are_accepted_images_and_masks_only(folder):
    path = table(folder, "p1,a,image.nii.gz,label.nii.gz", "", "p2,b,,label2.nii.gz")
    assert faults(path) == [set(), set()]
    assert check_cohort(path).subjects_by_site() == {"a": 1, "b": 1}
    assert check_cohort(path).counts() == {}


def test_columns_may_come_in_any_order_with_a_byte_order_mark_and_blanks(folder):
    path = table(folder, " label.nii.gz , p1 ,image.nii.gz,a", header="﻿label, subject,image,site")
    row = read_table(path).rows[0]
    assert (row.subject, row.site, row.line) == ("p1", "a", 2)
    assert row.label == folder / "label.nii.gz"
    assert "p1" not in repr(row)


def _with(values, index, value):
    changed = values.astype(np.float32)
    changed[index] = value
    return changed


MOVED = np.eye(4)
MOVED[0, 3] = 0.01
NEARLY = np.eye(4)
NEARLY[0, 3] = 0.0005


@pytest.mark.parametrize(
    ("values", "affine", "expected"),
    [
        (_with(GRADIENT, (0, 0, 0), np.nan), None, {Fault.NOT_FINITE_IMAGE}),
        (_with(GRADIENT, (0, 0, 0), np.inf), None, {Fault.NOT_FINITE_IMAGE}),
        (np.full_like(GRADIENT, 7), None, {Fault.CONSTANT_IMAGE}),
        (GRADIENT[:, :, :3], None, {Fault.OTHER_GRID}),
        (GRADIENT, MOVED, {Fault.OTHER_GRID}),
        (GRADIENT, NEARLY, set()),
        (np.stack([GRADIENT, GRADIENT], axis=-1), None, {Fault.UNREADABLE_IMAGE}),
        (GRADIENT.astype(np.complex64), None, {Fault.UNREADABLE_IMAGE}),
    ],
)
def test_image_faults_by_name(folder, values, affine, expected):
    nifti(folder / "bad.nii.gz", values, affine)
    assert faults(table(folder, "p1,a,bad.nii.gz,label.nii.gz")) == [expected]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (_with(MASK, (0, 0, 0), np.nan), {Fault.NOT_FINITE_LABEL}),
        (_with(MASK, (0, 0, 0), 0.5), {Fault.NOT_INTEGER_LABEL}),
        (_with(MASK, (0, 0, 0), 0.9999), set()),
        (_with(MASK, (0, 0, 0), -1), {Fault.NEGATIVE_LABEL}),
        (_with(np.zeros_like(MASK), (0, 0, 0), -0.3), {Fault.NOT_INTEGER_LABEL, Fault.EMPTY_LABEL}),
        (np.zeros_like(MASK), {Fault.EMPTY_LABEL}),
        (MASK * 3, set()),
    ],
)
def test_label_faults_by_name(folder, values, expected):
    nifti(folder / "bad.nii.gz", values)
    assert faults(table(folder, "p1,a,image.nii.gz,bad.nii.gz")) == [expected]


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        ([",a,image.nii.gz,label.nii.gz"], [{Fault.EMPTY_SUBJECT}]),
        (["p1,,image.nii.gz,label.nii.gz"], [{Fault.EMPTY_SITE}]),
        (["p1,a,image.nii.gz,"], [{Fault.NO_LABEL}]),
        (["p1,a,image.nii.gz"], [{Fault.RAGGED_ROW, Fault.NO_LABEL}]),
        (["p1,a,image.nii.gz,label.nii.gz,more"], [{Fault.RAGGED_ROW}]),
        (["p1,a,no.nii.gz,none.nii.gz"], [{Fault.MISSING_IMAGE, Fault.MISSING_LABEL}]),
        (["p1,a,image.dcm,label.nii.gz"], [{Fault.MISSING_IMAGE}]),
        (
            ["p1,a,image.nii.gz,label.nii.gz", "p1,a,./image.nii.gz,label.nii.gz"],
            [set(), {Fault.DUPLICATE_ROW}],
        ),
        (
            ["p1,a,image.nii.gz,label.nii.gz", "p1,b,image2.nii.gz,label2.nii.gz"],
            [{Fault.TWO_SITES}, {Fault.TWO_SITES}],
        ),
        (
            ["p1,a,image.nii.gz,label.nii.gz", "p2,a,image.nii.gz,label2.nii.gz"],
            [{Fault.SHARED_FILE}, {Fault.SHARED_FILE}],
        ),
        (["p1,a,image.nii.gz,label.nii.gz", "p1,a,image2.nii.gz,label.nii.gz"], [set(), set()]),
    ],
)
def test_row_faults_by_name(folder, rows, expected):
    assert faults(table(folder, *rows)) == expected


@pytest.mark.parametrize(
    ("header", "problems"),
    [
        ("subject,site,image,mask", ["the header lacks label; ", "column 'mask' is unknown"]),
        ("subject,site,image,label,birth", ["column 'birth' is unknown"]),
        ("subject,site,image,label,subject", ['column "subject" is named twice']),
        (
            "p0,a,i.nii,l.nii",
            ["the header lacks subject, site, image, label; the first line", *["column "] * 4],
        ),
        (
            "subject;site;image;label",
            ["the header lacks", "it is separated by semicolons; separate columns by commas"],
        ),
        (
            "subject\tsite\timage\tlabel",
            ["the header lacks", "it is separated by tabs; separate columns by commas"],
        ),
        ("", ["the header lacks subject, site, image, label"]),
    ],
)
def test_a_header_that_does_not_fit_is_told_once_and_not_for_each_row(folder, header, problems):
    path = table(folder, *[f"p{i},a,image.nii.gz,label.nii.gz" for i in range(9)], header=header)
    with pytest.raises(CohortError, match=r"the header of .*cohort\.csv must be subject,site") as error:
        check_cohort(path)
    assert len(error.value.problems) == len(problems)
    assert all(map(str.startswith, error.value.problems, problems))
    assert "line 2" not in str(error.value)
    told = run_check(str(path))
    assert (told.exit_code, told.stderr) == (2, f"willis: {error.value}\n")
    assert json.loads(run_check(str(path), "--json").stdout)["message"] == str(error.value)


@pytest.mark.parametrize("hidden", ["\0", "\x1b[2J", "\x07", "\u200b", "\u202e", "\x85", "\u2028", "\xad"])
def test_a_character_that_nobody_sees_is_refused_with_the_row_and_not_printed(folder, hidden):
    """Unseen, it would make two patients of one; or do what a terminal does at it."""
    good = "p1,a,image.nii.gz,label.nii.gz"
    path = table(folder, good, f"p{hidden}2,a,image2.nii.gz,label2.nii.gz", f"p3,a{hidden}b,,label2.nii.gz")
    assert faults(path)[0] == set()
    assert all(Fault.HIDDEN_CHARACTER in found for found in faults(path)[1:])
    first = check_cohort(path).refused[0]
    assert (first.row.line, f"the subject holds U+{ord(hidden[0]):04X}" in first.reasons[0].text) == (3, True)
    told = run_check(str(path))
    assert told.exit_code == 1
    assert hidden[0] not in told.output
    assert re.search(r"\W3\W.*hidden-character", told.output)


@pytest.mark.parametrize("cells", ["ima\0ge.nii.gz,label.nii.gz", "image.nii.gz,label\0.nii.gz"])
def test_a_path_that_no_disk_can_hold_is_refused_and_not_opened(folder, cells):
    assert faults(table(folder, f"p1,a,{cells}")) == [{Fault.HIDDEN_CHARACTER}]


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12))
def test_a_name_of_letters_digits_and_marks_is_not_refused(name):
    row = Row(line=2, subject=name, site="a", image=Path("i.png"), label=Path("l.png"))
    assert list(_row_faults(row, Table(Path("cohort.csv"), COLUMNS, (row,)))) == []


@pytest.mark.parametrize(
    "name", ["unknown.dcm", "cut.nii.gz", "cut.nii", "text.nii.gz", "cut.png", "flat.nii"]
)
def test_unreadable_files_are_refused_by_name(folder, name):
    whole = {".gz": folder / "image.nii.gz", "nii": nifti(folder / "w.nii", GRADIENT)}
    png(folder / "w.png", np.zeros((9, 9), np.uint8))
    content = {
        "unknown.dcm": b"DICM",
        "cut.nii.gz": whole[".gz"].read_bytes()[:60],
        "cut.nii": whole["nii"].read_bytes()[:380],
        "text.nii.gz": b"no scan",
        "cut.png": (folder / "w.png").read_bytes()[:45],
        "flat.nii": b"",
    }[name]
    (folder / name).write_bytes(content)
    found = faults(table(folder, f"p1,a,{name},label.nii.gz", f"p2,a,image2.nii.gz,{name}"))
    assert Fault.UNREADABLE_IMAGE in found[0]
    assert Fault.UNREADABLE_LABEL in found[1]


def test_singular_affine_is_unreadable(folder):
    image = Nifti1Image(GRADIENT, np.eye(4))
    image.header["srow_x"], image.header["pixdim"] = 0, 1
    image.header["sform_code"] = 1
    raw = bytearray(image.to_bytes())
    raw[280:296] = bytes(16)  # srow_x
    (folder / "flat.nii").write_bytes(raw)
    with pytest.raises(CohortError, match="without inverse"):
        open_volume(folder / "flat.nii")


def test_several_faults_of_one_row_are_all_told(folder):
    nifti(folder / "bad.nii.gz", np.full((5, 5, 5), 3, np.float32))
    nifti(folder / "worse.nii.gz", np.zeros((4, 4, 4), np.float32))
    path = table(folder, ",,bad.nii.gz,worse.nii.gz", "p1,a,image.nii.gz,label.nii.gz")
    expected = {
        Fault.EMPTY_SUBJECT, Fault.EMPTY_SITE, Fault.OTHER_GRID, Fault.CONSTANT_IMAGE, Fault.EMPTY_LABEL
    }  # fmt: skip
    assert faults(path) == [expected, set()]
    assert check_cohort(path).counts() == dict.fromkeys((f for f in Fault if f in expected), 1)


def test_picture_labels(tmp_path):
    colour = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    disc = np.hypot(*np.mgrid[-8:8, -8:8]) < 5
    Image.fromarray(colour).save(tmp_path / "image.jpg")
    png(tmp_path / "one.png", disc)
    png(tmp_path / "byte.png", (disc * 255).astype(np.uint8))
    png(tmp_path / "three.png", np.repeat((disc * 255).astype(np.uint8)[..., None], 3, axis=2))
    png(tmp_path / "sixteen.png", disc.astype(np.uint16) * 2)
    png(tmp_path / "colour.png", colour)
    Image.fromarray((disc * 255).astype(np.uint8)).save(tmp_path / "rings.jpg", quality=60)
    palette = Image.fromarray(disc.astype(np.uint8), mode=None).convert("P")
    palette.putpalette([9, 9, 9, 200, 0, 0] + [0] * 762)
    palette.save(tmp_path / "palette.png")
    names = ["one.png", "byte.png", "three.png", "sixteen.png", "palette.png", "colour.png", "rings.jpg"]
    path = table(tmp_path, *(f"p,a,image.jpg,{name}" for name in names))
    expected = [set()] * 5 + [{Fault.UNREADABLE_LABEL}, {Fault.LOSSY_LABEL}]
    assert faults(path) == expected
    for name in names[:5]:
        assert np.array_equal(open_volume(tmp_path / name).label() > 0, disc)
    assert np.array_equal(read_picture(tmp_path / "palette.png")[:, 8, 8], [200, 0, 0])


def test_transparent_pictures_lose_their_alpha(tmp_path):
    png(tmp_path / "a.png", np.full((4, 5, 4), 7, np.uint8))
    Image.fromarray(np.full((4, 5), 7, np.uint8)).convert("LA").save(tmp_path / "la.png")
    assert read_picture(tmp_path / "a.png").shape == (3, 4, 5)
    assert read_picture(tmp_path / "la.png").shape == (1, 4, 5)


def test_a_volume_is_turned_to_closest_canonical_and_keeps_world_coordinates(tmp_path):
    affine = np.array([[0, 0, -3.0, 10], [-1, 0, 0, 20], [0, 2, 0, 30], [0, 0, 0, 1]])
    volume = open_volume(nifti(tmp_path / "v.nii", GRADIENT, affine))
    assert volume.shape == (4, 2, 3)
    assert volume.spacing_mm == (3.0, 1.0, 2.0)
    assert aff2axcodes(volume.affine) == ("R", "A", "S")
    # The voxel with value v lies at the same place in mm before and after.
    values = volume.pixels()[0]
    for old in [(0, 0, 0), (1, 2, 3), (0, 1, 3)]:
        new = np.argwhere(values == GRADIENT[old])[0]
        assert np.allclose(volume.affine @ [*new, 1], affine @ [*old, 1])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (2, 1, 3), (1, 2, 3), (2, 3, 1, 1)])
def test_a_volume_of_one_slice_is_a_plane(tmp_path, shape):
    values = np.arange(6, dtype=np.int16).reshape(shape)
    volume = open_volume(nifti(tmp_path / "p.nii", values, np.diag([2.0, 3, 4, 1])))
    assert volume.shape == (2, 3)
    assert np.array_equal(volume.pixels()[0], values.reshape(2, 3))
    across = next((axis for axis, side in enumerate(shape[:3]) if side == 1), 2)
    old = np.insert([1.0, 2.0], across, 0.0)
    assert np.allclose((volume.affine @ [1, 2, 0, 1])[:3], old * [2, 3, 4])


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["w.nii", "w.png", "w.jpg"]), st.integers(0, 2000), st.integers(0, 255), st.booleans())
def test_a_damaged_file_is_read_or_refused_never_a_crash(tmp_path, name, at, value, cut):
    if not (tmp_path / name).exists():
        values = np.random.default_rng(0).integers(0, 255, (12, 13), dtype=np.uint8)
        nifti(tmp_path / name, values) if name == "w.nii" else png(tmp_path / name, values)
    raw = bytearray((tmp_path / name).read_bytes())
    raw[at % len(raw)] = value
    damaged = tmp_path / f"damaged{Path(name).suffix}"
    damaged.write_bytes(raw[: at % len(raw)] if cut else raw)
    try:
        volume = open_volume(damaged)
        shape = volume.pixels().shape[1:]
    except CohortError:
        return
    assert shape == volume.shape


@pytest.mark.parametrize("content", [b"", b"subject,site,image,label\n", b"\xff\xfe\x00", b'a,"b\nc'])
def test_a_table_that_cannot_be_read_raises(tmp_path, content):
    (tmp_path / "cohort.csv").write_bytes(content)
    with pytest.raises(CohortError, match=r"cohort\.csv"):
        check_cohort(tmp_path / "cohort.csv")
    with pytest.raises(CohortError, match="FileNotFoundError"):
        read_cohort(tmp_path / "none.csv")


def test_reading_keeps_usable_rows_and_raises_when_there_is_none(folder):
    rows = ["p2,b,image.nii.gz,label.nii.gz", "p1,b,image2.nii.gz,label2.nii.gz", "p3,a,no.nii,label.nii.gz"]
    rows += ["p1,b,,label2.nii.gz"]
    cohort = read_cohort(table(folder, *rows[:2], rows[3]))
    assert [(s.name, s.site, len(s.scans)) for s in cohort.subjects] == [("p1", "b", 2), ("p2", "b", 1)]
    with pytest.raises(CohortError, match="none of 1 rows") as error:
        read_cohort(table(folder, "p3,a,no.nii,image.nii.gz"))
    assert len(error.value.problems) == 1
    assert "line 2" in error.value.problems[0]


def run_check(*arguments: str):
    return CliRunner().invoke(cohort_command, ["check", *arguments])


def test_the_command_ends_with_0_1_or_2(folder):
    good, bad = "p1,a,image.nii.gz,label.nii.gz", "p2,a,no[i].nii,label2.nii.gz"
    assert run_check(str(table(folder, good))).exit_code == 0
    some = run_check(str(table(folder, good, bad)))
    assert some.exit_code == 1
    assert "missing-image" in some.output
    assert "2 rows read: 1 accepted, 1 refused" in some.output
    assert run_check(str(table(folder, bad))).exit_code == 2
    assert run_check(str(folder / "none.csv")).exit_code == 2
    assert "Example: willis cohort check" in run_check("--help").output


def test_the_command_counts_rows_without_an_image_and_ends_with_0(folder):
    whole, mask = "p1,a,image.nii.gz,label.nii.gz", "p2,a,,label2.nii.gz"
    told = run_check(str(table(folder, whole, mask)))
    assert told.exit_code == 0
    words = " ".join(told.output.split())
    assert "1 accepted rows have no image, only a mask: generators of images and U-nets cannot train" in words
    assert json.loads(run_check(str(folder / "cohort.csv"), "--json").stdout)["without_image"] == 1
    assert "no image" not in run_check(str(table(folder, whole))).output
    refused = table(folder, whole, "p3,,,label2.nii.gz")  # a refused row is told by its fault alone
    assert json.loads(run_check(str(refused), "--json").stdout)["without_image"] == 0


def test_the_command_prints_json_with_every_row(folder):
    path = table(folder, "p1,a,image.nii.gz,label.nii.gz", *[f"q{i},a,no.nii,no.nii" for i in range(60)])
    values = json.loads(run_check(str(path), "--json").stdout)
    assert (values["read"], values["accepted"], len(values["refused"])) == (61, 1, 60)
    assert values["reasons"] == {"shared-file": 60, "missing-image": 60, "missing-label": 60}
    assert values["sites"] == {"a": 1}
    assert "10 more refused rows" in run_check(str(path)).output
    broken = run_check(str(folder / "none.csv"), "--json")
    assert json.loads(broken.stdout)["error"] == "cohort"
