"""From an export to a cohort: what comes in, what is refused and told, what a second intake does."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from harness.made_dicom import Made, enhanced, rtstruct, seg, series
from nibabel.loadsave import save
from nibabel.nifti1 import Nifti1Image

from willis.client.cohort import read_cohort
from willis.client.ingest.dicom import cohort_folder
from willis.client.ingest.dicom.intake import KEY_FILE, Intake, ingest
from willis.client.ingest.dicom.report import IntakeResult
from willis.client.ingest.dicom.rule import IntakeRule
from willis.client.node.ingest_command import ingest as command
from willis.shared.errors import CohortError
from willis.shared.settings import parse

SITE = 'name = "site-a"\ncohort = "cohort.csv"\nstate = "state"\nepsilon_cap = 8.0\ndelta = 1e-4\n'


def rule(**values) -> IntakeRule:
    return parse(values, IntakeRule, where="rule", error=CohortError)


def an_intake(folder: Path, made_by: IntakeRule) -> Intake:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    return Intake(
        export=folder / "export",
        out=folder / "cohort",
        site="site-a",
        rule=made_by,
        key=site / KEY_FILE,
        memory=site / "state" / "intake",
    )


def marked(made: Made, share: float = 0.9) -> np.ndarray:
    return (made.voxels > np.quantile(made.voxels, share)).astype(np.uint8)


def a_patient(folder: Path, name: str, **rest) -> Made:
    """Write a series and its segmentation."""
    made = series(folder, patient=name, **rest)
    seg(folder, made, marked(made), name=f"seg-{made.series[-6:]}.dcm")
    return made


def verdicts(result: IntakeResult) -> dict[str, str]:
    """Return codes by the part of a series' name that tests can foresee."""
    return {one.name.partition("/")[2]: one.code for one in result.verdicts}


def opened(path: Path | None) -> Nifti1Image:
    assert path is not None
    return Nifti1Image.from_filename(path)


def through_the_affine(image: Nifti1Image, made: Made, values: np.ndarray) -> None:
    """Assert that every voxel of a file has the value that the source has at its place."""
    indices = np.argwhere(np.ones(image.shape))
    affine = np.asarray(image.affine, np.float64)
    back = np.linalg.inv(made.affine) @ affine @ np.c_[indices, np.ones(len(indices))].T
    i, j, k = np.rint(back[:3]).astype(int)
    assert np.abs(back[:3] - np.rint(back[:3])).max() < 1e-3
    np.testing.assert_array_equal(np.asanyarray(image.dataobj).ravel(), values[k, j, i])


def test_images_and_labels_come_in_as_they_are_in_the_export(tmp_path):
    made = [a_patient(tmp_path / "export" / name, name, seed=n) for n, name in enumerate(("A", "B"))]
    result = ingest(an_intake(tmp_path, rule()))
    assert (result.subjects, len(result.scans), result.anew, result.refusals) == (2, 2, 2, {})
    cohort = read_cohort(tmp_path / "cohort" / "cohort.csv")
    assert cohort.sites() == ("site-a",)
    assert all(re.fullmatch(r"p-[a-z2-7]{16}", subject.name) for subject in cohort.subjects)
    loaded = [
        (opened(scan.image), opened(scan.label)) for subject in cohort.subjects for scan in subject.scans
    ]
    means = [np.asanyarray(image.dataobj).mean() for image, _ in loaded]
    for one in made:
        image, label = loaded[int(np.argmin([abs(mean - one.voxels.mean()) for mean in means]))]
        through_the_affine(image, one, one.voxels)
        through_the_affine(label, one, marked(one))


def test_several_studies_of_a_patient_are_one_subject(tmp_path):
    for n, study in enumerate(("first", "second")):
        a_patient(tmp_path / "export" / study, "A", study=study, seed=n, StudyDate=f"2024010{n + 1}")
    result = ingest(an_intake(tmp_path, rule()))
    assert (result.subjects, len(result.scans)) == (1, 2)
    assert set(verdicts(result)) == {"study-1/series-3", "study-2/series-3"}


def test_every_series_that_is_not_taken_has_its_reason(tmp_path):
    export = tmp_path / "export"
    a_patient(export / "one", "A", series="tof", number=1)
    series(export / "one", patient="A", series="flair", number=2, description="FLAIR")
    series(export / "one", patient="A", series="thin", number=3, spacing=(0.2, 0.5, 0.4))
    series(export / "one", patient="A", series="short", number=4, shape=(5, 20, 24))
    (export / "Thumbs.db").write_bytes(b"no image")
    wanted = rule(image={"description": "tof", "between_mm": [0.5, 1.0]})
    result = ingest(an_intake(tmp_path, wanted))
    told = {name.rpartition("-")[2]: code for name, code in verdicts(result).items()}
    assert told == {"1": "taken", "2": "description", "3": "between_mm", "4": told["4"]}
    (short,) = (one for one in result.verdicts if one.name.endswith("series-4"))
    assert short.refused
    assert "5" in short.sentence
    assert result.left == {"not-dicom": 1}


@pytest.mark.parametrize(
    ("several", "codes"),
    [
        ("refuse", ["several", "several"]),
        ("most-slices", ["several", "taken"]),
        ("last", ["several", "taken"]),
    ],
)
def test_of_two_that_fit_one_is_taken_where_the_rule_says_which(tmp_path, several, codes):
    export = tmp_path / "export"
    a_patient(export, "A", series="one", number=1)
    a_patient(export, "A", series="two", number=2, shape=(14, 20, 24))
    result = ingest(an_intake(tmp_path, rule(image={"several": several})))
    assert [one.code for one in result.verdicts] == codes
    assert (len(result.scans), result.refusals) == ((0, {"several": 2}) if several == "refuse" else (1, {}))


def test_an_image_without_a_label_is_refused_and_contours_are_told_how_to_convert(tmp_path):
    made = series(tmp_path / "export", patient="A")
    result = ingest(an_intake(tmp_path, rule()))
    assert result.refusals == {"missing-mask": 1}
    rtstruct(tmp_path / "export", made)
    (one,) = ingest(an_intake(tmp_path, rule())).verdicts
    assert (one.code, one.refused) == ("rtstruct", True)
    assert "dcmrtstruct2nii" in one.sentence


def test_masks_beside_the_export_by_a_pattern(tmp_path):
    made = series(tmp_path / "export" / "images", patient="PAT-7", number=4)
    (tmp_path / "export" / "masks").mkdir()
    mask = Nifti1Image(marked(made).transpose(2, 1, 0), made.affine)
    save(mask, tmp_path / "export" / "masks" / "PAT-7_4.nii.gz")
    beside = rule(label={"source": "nifti", "pattern": "masks/{patient}_{series_number}.nii.gz"})
    result = ingest(an_intake(tmp_path, beside))
    assert result.refusals == {}
    label = opened(next((tmp_path / "cohort" / "labels").iterdir()))
    through_the_affine(label, made, marked(made))


def test_a_cohort_of_masks_alone(tmp_path):
    made = a_patient(tmp_path / "export", "A")
    result = ingest(an_intake(tmp_path, rule(label={"source": "masks-alone"})))
    assert sorted(one.code for one in result.verdicts) == ["masks-alone", "taken"]
    assert list((tmp_path / "cohort" / "images").iterdir()) == []
    (subject,) = read_cohort(tmp_path / "cohort" / "cohort.csv").subjects
    assert subject.scans[0].image is None
    label = opened(subject.scans[0].label)
    through_the_affine(label, made, marked(made))


def test_the_distance_of_a_multi_frame_images_slices_is_checked_too(tmp_path):
    made = enhanced(tmp_path / "export", patient="A")
    seg(tmp_path / "export", made, marked(made))
    assert ingest(an_intake(tmp_path, rule(image={"between_mm": [0.6, 0.8]}))).refusals == {}
    (one,) = (
        one for one in ingest(an_intake(tmp_path, rule(image={"between_mm": [1, 2]}))).verdicts if one.refused
    )
    assert "0.7 is outside between_mm = [1, 2]" in one.sentence


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_again_it_does_what_is_new_and_nothing_else(tmp_path):
    export, out = tmp_path / "export", tmp_path / "cohort"
    a_patient(export / "one", "A")
    before = state_of(export)
    assert ingest(an_intake(tmp_path, rule())).anew == 1
    first = {name: told for name, told in state_of(out).items() if name.endswith(".gz")}
    assert ingest(an_intake(tmp_path, rule())).anew == 0
    assert state_of(export) == before, "an export is never written to"
    a_patient(export / "two", "B", seed=1)
    result = ingest(an_intake(tmp_path, rule()))
    assert (result.anew, len(result.scans)) == (1, 2)
    now = state_of(out)
    assert {name: now[name] for name in first} == first

    next(iter(out.glob("labels/*"))).write_bytes(b"somebody wrote here")
    assert ingest(an_intake(tmp_path, rule())).anew == 1
    for path in (export / "two").iterdir():
        path.unlink()
    assert len(ingest(an_intake(tmp_path, rule())).scans) == 1
    assert len(list(out.glob("images/*"))) == len(list(out.glob("labels/*"))) == 1


def test_killed_in_the_middle_it_goes_on(tmp_path, monkeypatch):
    for n in range(3):
        a_patient(tmp_path / "export" / str(n), f"PAT-{n}", seed=n)
    honest, calls = cohort_folder.CohortFolder.write, []

    def dies(self, *args, **rest):
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return honest(self, *args, **rest)

    monkeypatch.setattr(cohort_folder.CohortFolder, "write", dies)
    with pytest.raises(KeyboardInterrupt):
        ingest(an_intake(tmp_path, rule()))
    assert not (tmp_path / "cohort" / "cohort.csv").exists()
    result = ingest(an_intake(tmp_path, rule()))
    assert (len(result.scans), result.anew) == (3, 2)


def test_a_cohort_is_of_one_export_unless_another_is_to_take_its_place(tmp_path):
    a_patient(tmp_path / "export", "A")
    first = an_intake(tmp_path, rule())
    before = ingest(first).scans
    other = replace(first, export=tmp_path / "other")
    a_patient(tmp_path / "other", "B", seed=1)
    table = (tmp_path / "cohort" / "cohort.csv").read_bytes()
    with pytest.raises(CohortError, match="cohort of another export"):
        ingest(other)
    assert (tmp_path / "cohort" / "cohort.csv").read_bytes() == table
    elsewhere = ingest(replace(other, out=tmp_path / "second"))
    assert (elsewhere.subjects, ingest(first).anew) == (1, 0), "two cohorts of a site stay apart"
    taken = ingest(replace(other, replace=True))
    assert (taken.subjects, taken.scans[0].subject != before[0].subject) == (1, True)


def test_the_cohort_is_not_within_the_export_nor_the_other_way(tmp_path):
    a_patient(tmp_path / "export", "A")
    whole = an_intake(tmp_path, rule())
    for out in (whole.export, whole.export / "cohort", tmp_path):
        with pytest.raises(CohortError, match="one within the other"):
            ingest(replace(whole, out=out))


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"deid": "off"}, "deid"),
        ({"image": {"description": "("}}, "regular expression"),
        ({"image": {"slices": [9, 3]}}, "least, most"),
        ({"label": {"source": "nifti"}}, "go together"),
        ({"label": {"source": "nifti", "pattern": "{name}.nii"}}, "unknown places"),
        ({"label": {"source": "nifti", "pattern": "{patient}.nii", "segments": ["A"]}}, "segments are for"),
    ],
)
def test_a_rule_that_cannot_be_meant_is_refused(values, told):
    with pytest.raises(CohortError) as fault:
        rule(**values)
    assert told in " ".join([str(fault.value), *fault.value.problems])


def test_the_command_explains_and_speaks_json(tmp_path):
    a_patient(tmp_path / "export", "A", number=7)
    site = tmp_path / "site"
    site.mkdir()
    (site / "site.toml").write_text(SITE + '[intake.image]\ndescription = "tof"\n')
    words = [str(tmp_path / "export"), "--out", str(tmp_path / "cohort"), "--site", str(site)]
    ended = CliRunner().invoke(command, [*words, "--explain"])
    assert ended.exit_code == 0, ended.output
    assert "taken   p-" in ended.output
    assert "1 scans of 1 patients" in ended.output
    told = json.loads(CliRunner().invoke(command, [*words, "--json"]).stdout)
    assert (told["subjects"], told["made_anew"], told["refusals"]) == (1, 0, {})
    assert json.loads((tmp_path / "cohort" / "intake.json").read_bytes())["scans"] == 1
    page = (tmp_path / "cohort" / "intake.html").read_text()
    assert "data:image/png" in page
    assert "stays at the site" in page
    assert "script" not in page
