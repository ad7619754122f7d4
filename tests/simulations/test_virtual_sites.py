"""Virtual hospitals: scanners within the prior's bounds, no two alike, the same patients again."""

import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.loadsave import load
from PIL import Image

from willis.client.cohort import read_cohort
from willis.shared.errors import StateError
from willis.shared.prior.families import Family, check_ranges, parameters_of, ranges_of
from willis.shared.study import read_study
from willis.simulations import virtual_sites
from willis.simulations.hospitals import lay_out_patients
from willis.simulations.progress import Show
from willis.simulations.virtual_sites import make_cohort, scanner

DEMO = Path(__file__).parents[2] / "simulations" / "studies" / "demo.toml"
SITES = ("site-a", "site-b")


@pytest.fixture(autouse=True)
def _threads(monkeypatch):
    """Threads in place of processes, which take seconds to start; `willis simulate` is tested with those."""
    monkeypatch.setattr(
        virtual_sites, "ProcessPoolExecutor", lambda workers, mp_context: ThreadPoolExecutor(workers)
    )


def digests(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


@given(family=st.sampled_from(Family), place=st.floats(0, 1))
def test_a_scanners_ranges_lie_within_the_priors_bounds_wherever_it_stands(family, place):
    demo = read_study(DEMO)
    study = demo.model_copy(update={"prior": demo.prior.model_copy(update={"family": family, "ranges": {}})})
    ranges = scanner(study, place)
    check_ranges(family, ranges)
    for name, (low, high) in ranges.items():
        known = parameters_of(family)[name]
        assert known.least <= low <= high <= known.most


@pytest.mark.parametrize("family", list(Family))
def test_the_first_sites_scanner_is_not_the_last_ones(family, tiny_study):
    study = tiny_study(prior={"family": family.value})
    first, last = scanner(study, 0.0), scanner(study, 1.0)
    assert first == scanner(study, 0.0)
    assert all(first[name] != last[name] for name in first)
    apart = [name for name in first if first[name][1] < last[name][0] or last[name][1] < first[name][0]]
    assert apart, "some parameter has no value that both sites could draw"


def test_ranges_of_the_study_hold_where_the_scanner_says_nothing(tiny_study):
    study = tiny_study(prior={"ranges": {"trees": [2, 3], "noise": [0.0, 0.001]}})
    ranges = scanner(study, 0.5)
    assert ranges["trees"] == (2, 3)
    assert ranges["noise"] != (0.0, 0.001), "the scanner's own"


def test_the_demos_sites_have_what_its_prior_never_draws():
    study = read_study(DEMO)
    prior = ranges_of(study.prior.family, study.prior.ranges)
    for place in (0.0, 1.0):
        beyond = [
            name
            for name, (low, high) in scanner(study, place).items()
            if high < prior[name][0] or low > prior[name][1]
        ]
        assert beyond, "else there is nothing to be learned from this site"


def test_a_cohort_has_the_declared_subjects_and_the_held_out_on_top(tiny_study, tmp_path):
    study, told = tiny_study(use={"held_out": 0.25}), []
    table = make_cohort(study, SITES, folder=tmp_path, progress=lambda done, of: told.append((done, of)))
    cohort = read_cohort(table)
    assert {site: len(cohort.at(site)) for site in cohort.sites()} == {"site-a": 8, "site-b": 8}
    assert told == [(done, 16) for done in range(1, 17)]


def test_the_same_study_makes_the_same_patients_and_another_seed_others(tiny_study, tmp_path):
    for folder, seed in (("one", 1), ("again", 1), ("other", 2)):
        make_cohort(tiny_study(seed=seed), SITES, folder=tmp_path / folder)
    one, again, other = (digests(tmp_path / folder) for folder in ("one", "again", "other"))
    assert one == again
    assert one.keys() == other.keys()
    images = [name for name in one if name.endswith("_image.png")]
    assert all(one[name] != other[name] for name in images)
    assert len({one[name] for name in images}) == len(images), "no two patients are alike"


def test_files_that_are_there_already_are_drawn_again_not_trusted(tiny_study, tmp_path):
    make_cohort(tiny_study(), SITES, folder=tmp_path)
    wanted = digests(tmp_path)
    for path in (tmp_path / "site-a").glob("*_image.png"):
        path.write_bytes(b"left by a kill")
    make_cohort(tiny_study(), SITES, folder=tmp_path)
    assert digests(tmp_path) == wanted


def test_a_patient_is_larger_than_a_patch_and_its_label_binary(tiny_study, tmp_path):
    make_cohort(tiny_study(), ["site-a"], folder=tmp_path)
    for path in (tmp_path / "site-a").glob("*_image.png"):
        image, label = (np.asarray(Image.open(file)) for file in (path, _label(path)))
        assert image.shape == label.shape == (24, 24)
        assert image.dtype == np.uint16
        assert set(np.unique(label)) <= {0, 1}
        assert image.std() > 0


def test_3d_patients_are_nifti_volumes(tiny_study, tmp_path):
    study = tiny_study(
        patch={"size": [16, 8, 8]},
        prior={"family": "organ"},
        federation={"quorum": 1, "sites": [{"name": "site-a", "subjects": 2}]},
    )
    cohort = read_cohort(make_cohort(study, ["site-a"], folder=tmp_path))
    (first, *_) = cohort.subjects
    assert first.scans[0].image is not None
    assert load(first.scans[0].image).shape == (24, 12, 12)  # pyright: ignore[reportAttributeAccessIssue]
    assert load(first.scans[0].label).shape == (24, 12, 12)  # pyright: ignore[reportAttributeAccessIssue]


def _label(image: Path) -> Path:
    return image.with_name(image.name.replace("_image", "_label"))


def test_a_federation_to_try_has_a_table_for_every_site_and_keeps_the_held_out_apart(tiny_study, tmp_path):
    study = tiny_study()
    tables = lay_out_patients(study, tmp_path / "patients", show=Show(quiet=True))
    held_out = {subject.name for subject in read_cohort(tmp_path / "patients" / "held_out.csv").subjects}
    assert held_out
    for site in study.federation.sites:
        cohort = read_cohort(tables[site.name])
        assert cohort.sites() == (site.name,)
        assert len(cohort.subjects) == site.subjects
        assert not held_out & {subject.name for subject in cohort.subjects}
    with pytest.raises(StateError, match="is not empty; name a new folder"):
        lay_out_patients(study, tmp_path / "patients", show=Show(quiet=True))
