"""What a release is worth: segmenters trained on drawn patches, tested on real subjects.

Every row trains the same U-nets, from the same seeds, for the same number of steps, on the same number of
patches; only the patches differ. Real subjects are scored and never chosen by: no step, threshold or seed
depends on them. The scores themselves are outside the privacy budget.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.ndimage import affine_transform
from torch import Tensor

from willis.client.cohort import Cohort, Scan, Subject
from willis.client.ingest.volume import open_volume
from willis.client.patches import LoadedScan, load_subject
from willis.shared.errors import CohortError
from willis.shared.metrics.interval import bootstrap_interval, mean_over_subjects, paired_difference_interval
from willis.shared.metrics.masks import cldice, dice, hd95
from willis.shared.metrics.scores import PairedDifference, SegmentationScores
from willis.shared.metrics.sheet import Evaluation
from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches, PatchSpec
from willis.shared.segmenter import Segmenter, train_segmenter
from willis.shared.study import Study

Progress = Callable[[str, int, int], None]  # what is being done, done, in all

# Is the release better than its public prior; what does it lack to real patches; does it add to them?
COMPARED = (("synthetic", "prior"), ("synthetic", "real"), ("mixed", "real"))


@dataclass(frozen=True, repr=False)
class Case:
    """One scan to be segmented; never leaves the hospital.

    Attributes:
        image: Normalised, on the spec's grid.
        truth: The file's own label, on the file's own grid.
        spacing: Pixel size of the file in mm along each axis; ones for a picture.
        in_mm: False for a picture: distances are in pixels.
        step: Pixels of the file for one of ``image``, along each axis.
    """

    image: Float[Tensor, " channel *space"]
    truth: Bool[np.ndarray, "*own"]
    spacing: tuple[float, ...]
    in_mm: bool
    step: tuple[float, ...]


@dataclass(frozen=True, repr=False)
class SubjectScore:
    """One subject's means over its scans and over seeds; never leaves the hospital."""

    dice: float
    hd95: float
    cldice: float
    empty_truth: bool
    empty_prediction: bool
    in_mm: bool


def run_rows(
    rows: Mapping[str, LabelledPatches],
    *,
    test: Cohort,
    study: Study,
    device: torch.device,
    progress: Progress | None = None,
) -> Evaluation:
    """Train ``study.use.seeds`` segmenters for every row, and test all of them on every subject.

    Rows share seeds (first weights, batches, augmentation come from the study's public seed) and subjects,
    so that differences between rows are paired.

    Args:
        rows: Training patches by the row's name, such as ``synthetic``, ``prior``, ``real``.
        test: Subjects that trained nothing.
        study: Patches, U-nets and seeds.
        device: Where to train.
        progress: Called with what is being done, and how much of it is done.

    Raises:
        ValueError: No rows, or rows of different numbers of patches.
        CohortError: Nobody to test on, a scan that cannot be loaded, or pictures beside volumes.
    """
    _check(rows, test)
    segmenters = {
        name: _train_seeds(name, patches, study, device=device, progress=progress)
        for name, patches in rows.items()
    }
    scores: dict[str, list[SubjectScore]] = {name: [] for name in rows}
    for done, subject in enumerate(test.subjects, start=1):
        cases = load_cases(subject, study.patch)
        for name in rows:
            scores[name].append(score_cases(segmenters[name], cases))
        if progress is not None:
            progress("testing", done, len(test))
    return Evaluation(
        rows=tuple(
            declare(name, scores[name], n_seeds=study.use.seeds, rng=_resampling(study.seed)) for name in rows
        ),
        differences=tuple(
            _difference(first, second, scores, rng=_resampling(study.seed))
            for first, second in COMPARED
            if first in scores and second in scores
        ),
    )


def score_segmenters(
    name: str, segmenters: Sequence[Segmenter], *, test: Cohort, spec: PatchSpec, rng: np.random.Generator
) -> SegmentationScores:
    """Test the segmenters of one row, one for each seed, on every subject of a cohort.

    Raises:
        CohortError: As for :func:`run_rows`.
    """
    _check({name: ()}, test)
    scores = [score_cases(segmenters, load_cases(subject, spec)) for subject in test.subjects]
    return declare(name, scores, n_seeds=len(segmenters), rng=rng)


def declare(
    name: str, scores: Sequence[SubjectScore], *, n_seeds: int, rng: np.random.Generator
) -> SegmentationScores:
    """Turn subjects' scores into what may be declared: means, an interval, counts, and Dice without names.

    Raises:
        CohortError: Some subjects' distances are in mm and others' in pixels; their mean has no unit.
        ValueError: A score is not finite.
    """
    if len({score.in_mm for score in scores}) > 1:
        raise CohortError(
            "the cohort mixes pictures and volumes; their distances have no common unit: test each apart"
        )
    values = [score.dice for score in scores]
    return SegmentationScores(
        name=name,
        dice=mean_over_subjects(values),
        dice_interval=bootstrap_interval(values, rng=rng),
        hd95=mean_over_subjects([score.hd95 for score in scores]),
        hd95_unit="mm" if scores[0].in_mm else "pixels",
        cldice=mean_over_subjects([score.cldice for score in scores]),
        n_subjects=len(scores),
        n_empty_truths=sum(score.empty_truth for score in scores),
        n_empty_predictions=sum(score.empty_prediction for score in scores),
        seeds=n_seeds,
        per_subject=tuple(sorted(values, reverse=True)),
    )


def load_cases(subject: Subject, spec: PatchSpec) -> tuple[Case, ...]:
    """Load a subject's scans, normalised as its patches are, each beside its label as the file holds it."""
    return tuple(
        _case(loaded, scan) for loaded, scan in zip(load_subject(subject, spec), subject.scans, strict=True)
    )


def score_cases(segmenters: Sequence[Segmenter], cases: Sequence[Case]) -> SubjectScore:
    """Segment one subject's scans by every segmenter and average their scores.

    A mask is drawn on the grid of the file: where patches have another spacing, the chance of foreground is
    carried back by linear interpolation, and cut at one half there.
    """
    if not segmenters:
        raise ValueError("at least one segmenter is needed, got 0")
    masks = [(segment(segmenter, case), case) for segmenter in segmenters for case in cases]
    return SubjectScore(
        dice=float(np.mean([dice(mask, case.truth) for mask, case in masks])),
        hd95=float(np.mean([hd95(mask, case.truth, case.spacing) for mask, case in masks])),
        cldice=float(np.mean([cldice(mask, case.truth) for mask, case in masks])),
        empty_truth=any(not case.truth.any() for case in cases),
        empty_prediction=any(not mask.any() for mask, _ in masks),
        in_mm=all(case.in_mm for case in cases),
    )


def segment(segmenter: Segmenter, case: Case) -> Bool[np.ndarray, "*own"]:
    """Return the foreground of one scan on the grid of its file."""
    chance = segmenter.probability(case.image).numpy()
    if not np.allclose(case.step, 1.0):
        # The inverse of the resampling in ``patches``: both grids share the outer edge of their first voxel.
        back = 1 / np.array(case.step)
        chance = affine_transform(
            chance,
            back,
            list((back - 1) / 2),  # pyright: ignore[reportArgumentType]  (one number an axis; the stub knows one)
            output_shape=case.truth.shape,
            order=1,
            mode="nearest",
        )
    return chance >= 0.5


def _case(loaded: LoadedScan, scan: Scan) -> Case:
    own = open_volume(scan.label)
    step = tuple(new / old for new, old in zip(loaded.spacing_mm, own.spacing_mm, strict=True))
    image = torch.from_numpy(np.ascontiguousarray(loaded.pixels()))
    return Case(image, own.label() > 0.5, own.spacing_mm, own.in_mm, step)


def _train_seeds(
    name: str, patches: LabelledPatches, study: Study, *, device: torch.device, progress: Progress | None
) -> list[Segmenter]:
    trained = []
    for seed in range(study.use.seeds):
        title = f"training {name} ({seed + 1} of {study.use.seeds})"
        trained.append(
            train_segmenter(
                patches,
                study.patch,
                plan=study.use,
                generator=public_generator(study.seed, "segmenter", seed),
                device=device,
                progress=_titled(title, progress),
            )
        )
    return trained


def _titled(title: str, progress: Progress | None) -> Callable[[int, int], None] | None:
    return None if progress is None else lambda done, total: progress(title, done, total)


def _difference(
    first: str, second: str, scores: Mapping[str, Sequence[SubjectScore]], *, rng: np.random.Generator
) -> PairedDifference:
    one, other = ([score.dice for score in scores[name]] for name in (first, second))
    return PairedDifference(
        first=first,
        second=second,
        dice=mean_over_subjects(list(np.subtract(one, other))),
        interval=paired_difference_interval(one, other, rng=rng),
        n_subjects=len(one),
    )


def _resampling(seed: int) -> np.random.Generator:
    """Return the same public resamples of subjects for every row."""
    return np.random.default_rng([seed, 1979])


def _check(rows: Mapping[str, Sequence | Tensor], test: Cohort) -> None:
    if not rows:
        raise ValueError("at least one row of training patches is needed, got 0")
    sizes = {name: len(patches) for name, patches in rows.items()}
    if len(set(sizes.values())) > 1:
        raise ValueError(f"every row must train on the same number of patches, got {sizes}")
    if not len(test) >= 1:
        raise CohortError("nobody to test on; hold some subjects out (use.held_out), or name another cohort")
