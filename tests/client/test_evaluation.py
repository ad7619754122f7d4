"""Rows on real subjects: by hand with networks that are told what to say, and once with true training."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from nibabel.nifti1 import Nifti1Image
from PIL import Image
from torch import Tensor, nn

from willis.client.cohort import Cohort, Scan, Subject, read_cohort
from willis.client.evaluation import (
    SubjectScore,
    declare,
    load_cases,
    run_rows,
    score_cases,
    score_segmenters,
    segment,
)
from willis.client.patches import cut_patches, load_subject
from willis.shared.errors import CohortError
from willis.shared.federation_plan import FederationPlan, SitePlan
from willis.shared.patch import PatchSpec
from willis.shared.prior.families import Family
from willis.shared.privacy import PrivacyUnit
from willis.shared.segmenter import Segmenter
from willis.shared.study import PriorPlan, PrivacyPlan, Study, TrainingPlan, UsePlan

DATA = Path(os.environ.get("WILLIS_DATA", Path(__file__).parents[3] / "shared" / "data"))
CPU = torch.device("cpu")
FLAT = PatchSpec(size=(32, 32), per_subject=8, percentiles=(0, 100))


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def study(spec: PatchSpec = FLAT, **use) -> Study:
    return Study(
        name="tiny",
        patch=spec,
        prior=PriorPlan(family=Family.VESSELS),
        privacy=PrivacyPlan(epsilon=3, delta=1e-3, unit=PrivacyUnit.SUBJECT, sampling_rate=0.5),
        training=TrainingPlan(rounds=1, critic_steps=5, patches_per_bag=2),
        federation=FederationPlan(sites=(SitePlan(name="a", subjects=20),), quorum=1),
        use=UsePlan(**{"unet_steps": 1, "unet_batch": 2, "unet_width": 2} | use),
    )


def box(shape: tuple[int, ...], low: int = 10, high: int = 22) -> np.ndarray:
    mask = np.zeros(shape, dtype=np.uint8)
    mask[tuple(slice(min(low, side // 4), min(high, side - 1)) for side in shape)] = 1
    return mask


def picture(folder: Path, name: str, label: np.ndarray, *, seen: np.ndarray | None = None) -> Subject:
    """Write a picture whose pixels are 200 where ``seen``, else 20."""
    seen = label if seen is None else seen
    image = folder / f"{name}.png"
    Image.fromarray(np.where(seen > 0, 200, 20).astype(np.uint8)).save(image)
    mask = folder / f"{name}_label.png"
    Image.fromarray((label * 255).astype(np.uint8)).save(mask)
    return Subject(name, "a", (Scan(image, mask),))


def volume(folder: Path, name: str, label: np.ndarray, spacing: tuple[float, ...]) -> Subject:
    affine = np.diag([*spacing, 1.0])
    image, mask = folder / f"{name}.nii.gz", folder / f"{name}_label.nii.gz"
    Nifti1Image(np.where(label > 0, 900, 100).astype(np.int16), affine).to_filename(image)
    Nifti1Image(label.astype(np.uint8), affine).to_filename(mask)
    return Subject(name, "a", (Scan(image, mask),))


class Scaled(nn.Module):
    """Foreground where a pixel is bright; nowhere, where the sign is turned and the image all dark."""

    def __init__(self, factor: float, shift: float = 0.0) -> None:
        super().__init__()
        self.factor, self.shift = factor, shift

    def forward(self, windows: Tensor) -> Tensor:
        return self.factor * windows + self.shift


def bright(spec: PatchSpec = FLAT) -> Segmenter:
    return Segmenter(Scaled(50.0), spec, CPU)


def blind(spec: PatchSpec = FLAT) -> Segmenter:
    return Segmenter(Scaled(0.0, shift=-9.0), spec, CPU)


def test_a_perfect_segmenter_scores_one_on_pictures_in_pixels(tmp_path):
    test = Cohort((picture(tmp_path, "p1", box((40, 50))), picture(tmp_path, "p2", box((20, 60)))))
    row = score_segmenters("synthetic", [bright()], test=test, spec=FLAT, rng=np.random.default_rng(0))
    assert (row.dice, row.dice_interval, row.hd95, row.cldice) == (1, (1, 1), 0, 1)
    assert (row.n_subjects, row.seeds, row.n_empty_predictions, row.hd95_unit) == (2, 1, 0, "pixels")


def test_scores_are_means_over_scans_then_seeds_then_subjects(tmp_path):
    # One subject with two scans. Scan 2 shows only the lower half of its foreground: 6 of 12 rows, Dice 2/3.
    label = box((40, 40), 10, 22)
    half = label.copy()
    half[16:] = 0
    scans = picture(tmp_path, "one", label).scans + picture(tmp_path, "two", label, seen=half).scans
    subject = Subject("both", "a", scans)
    score = score_cases([bright(), blind()], load_cases(subject, FLAT))
    assert score.dice == pytest.approx((1 + 2 / 3 + 0 + 0) / 4)
    # The missing half reaches 6 rows beyond what was found; the blind one is as wrong as the image is long.
    edge = np.hypot(39, 39)
    assert score.hd95 == pytest.approx((0 + 6 + 2 * edge) / 4)
    assert (score.empty_truth, score.empty_prediction, score.in_mm) == (False, True, False)
    other = SubjectScore(0.5, 1.0, 0.5, True, False, False)
    row = declare("real", [score, other], n_seeds=2, rng=np.random.default_rng(0))
    assert row.dice == pytest.approx((score.dice + 0.5) / 2)
    assert (row.n_empty_truths, row.n_empty_predictions) == (1, 1)
    assert row.per_subject == (0.5, score.dice)


@pytest.mark.parametrize("axis", ["sagittal", "coronal", "axial"])
def test_a_volume_is_stitched_from_slices_and_scored_in_mm(tmp_path, axis):
    spec = FLAT.model_copy(update={"axis": axis})
    subject = volume(tmp_path, "v", box((24, 30, 36), 4, 9), (0.5, 1.0, 2.0))
    (case,) = load_cases(subject, spec)
    assert (case.spacing, case.in_mm) == ((0.5, 1.0, 2.0), True)
    assert np.array_equal(segment(bright(spec), case), case.truth)
    score = score_cases([blind(spec)], [case])
    assert score.hd95 == pytest.approx(np.sqrt((23 * 0.5) ** 2 + 29**2 + (35 * 2.0) ** 2))


@pytest.mark.parametrize("spacing", [(0.5, 0.5, 1.0), (2.0, 2.0, 1.0)])
def test_masks_come_back_to_the_grid_of_the_file(tmp_path, spacing):
    # Patches of 1 mm, files finer and coarser: the truth is the file's own, and the mask lies where it lies.
    spec = PatchSpec(size=(32, 32, 32), spacing_mm=(1.0, 1.0, 1.0), percentiles=(0, 100))
    label = np.zeros((36, 40, 20), dtype=np.uint8)
    label[8:20, 12:30, 4:12] = 1
    (case,) = load_cases(volume(tmp_path, "v", label, spacing), spec)
    assert np.array_equal(case.truth, label > 0)
    assert case.image.shape[1:] != label.shape
    mask = segment(bright(spec), case)
    assert mask.shape == label.shape
    # No shift: edges that fell between two voxels move by less than one of them.
    for axis in range(3):
        found, true = (np.flatnonzero(mask.any(tuple({0, 1, 2} - {axis}))) for mask in (mask, label > 0))
        assert abs(found[0] - true[0]) <= 1
        assert abs(found[-1] - true[-1]) <= 1
        assert abs((found[0] + found[-1]) - (true[0] + true[-1])) <= 1


def test_rows_are_trained_alike_and_compared_in_pairs(tmp_path, monkeypatch):
    monkeypatch.setattr("willis.shared.segmenter.LEARNING_RATE", 1e-2)  # seconds must do
    train = [picture(tmp_path, f"t{index}", box((40, 40), 4 + index, 16 + 2 * index)) for index in range(4)]
    test = Cohort(
        tuple(picture(tmp_path, f"p{index}", box((40, 44), 5, 15 + 3 * index)) for index in range(3))
    )
    rng = np.random.default_rng(0)
    good = torch.from_numpy(
        np.concatenate([cut_patches(load_subject(one, FLAT), FLAT, rng) for one in train])
    )
    wrong = good.clone()
    wrong[:, 1] = -1.0  # nothing is ever foreground
    plan = study(unet_steps=30, unet_batch=8, unet_width=4, seeds=2)
    seen = []
    found = run_rows(
        {"synthetic": good, "prior": wrong, "real": good},
        test=test,
        study=plan,
        device=CPU,
        progress=lambda *at: seen.append(at),
    )
    synthetic, prior, real = (found.row(name) for name in ("synthetic", "prior", "real"))
    assert synthetic.dice > 0.6
    assert prior.dice < synthetic.dice - 0.3
    # The same patches and the same seeds: the same segmenters.
    assert synthetic.model_dump(exclude={"name"}) == real.model_dump(exclude={"name"})
    assert (synthetic.seeds, synthetic.n_subjects) == (2, 3)
    gain, gap = found.differences
    assert (gain.first, gain.second, gap.second) == ("synthetic", "prior", "real")
    assert gain.dice == pytest.approx(synthetic.dice - prior.dice)
    assert gain.interval[0] > 0
    assert (gap.dice, gap.interval) == (0, (0, 0))
    assert seen[0] == ("training synthetic (1 of 2)", 1, 30)
    assert seen[-1] == ("testing", 3, 3)


def test_rows_that_cannot_be_compared_are_refused(tmp_path):
    test = Cohort((picture(tmp_path, "p", box((40, 40))),))
    patches = torch.full((4, 2, 32, 32), -1.0)
    with pytest.raises(ValueError, match=r"'synthetic': 4, 'real': 3"):
        run_rows({"synthetic": patches, "real": patches[:3]}, test=test, study=study(), device=CPU)
    with pytest.raises(ValueError, match="at least one row"):
        run_rows({}, test=test, study=study(), device=CPU)
    with pytest.raises(CohortError, match="nobody to test on"):
        run_rows({"synthetic": patches}, test=Cohort(()), study=study(), device=CPU)
    with pytest.raises(ValueError, match="at least one segmenter"):
        score_cases([], load_cases(test.subjects[0], FLAT))


def test_pictures_and_volumes_have_no_common_distance(tmp_path):
    test = Cohort(
        (picture(tmp_path, "p", box((40, 40))), volume(tmp_path, "v", box((20, 20, 20), 4, 9), (1, 1, 1)))
    )
    with pytest.raises(CohortError, match="mixes pictures and volumes"):
        score_segmenters("real", [bright()], test=test, spec=FLAT, rng=np.random.default_rng(0))


def test_nothing_declared_names_a_subject(tmp_path):
    test = Cohort((picture(tmp_path, "surname-1970", box((40, 40))),))
    row = score_segmenters("real", [bright()], test=test, spec=FLAT, rng=np.random.default_rng(0))
    assert "surname" not in row.model_dump_json()
    assert "surname" not in repr(load_cases(test.subjects[0], FLAT))


@pytest.mark.skipif(not (DATA / "hippocampus_msd").is_dir(), reason="no hippocampus_msd (set WILLIS_DATA)")
def test_real_scans_are_loaded_and_scored_whole():
    cohort = Cohort(read_cohort(DATA / "hippocampus_msd" / "cohort.csv").subjects[:2])
    spec = PatchSpec(size=(32, 32), axis="coronal")
    row = score_segmenters("real", [blind(spec)], test=cohort, spec=spec, rng=np.random.default_rng(0))
    # Nothing found in two scans of about 35 x 50 x 35 mm: Dice 0, and as wrong as the image is long.
    assert (row.dice, row.n_empty_predictions, row.hd95_unit) == (0, 2, "mm")
    assert 55 < row.hd95 < 90
