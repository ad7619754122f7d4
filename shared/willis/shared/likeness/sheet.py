"""How alike synthetic and real patches are: every figure beside what real patches reach against real ones."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from willis.shared.errors import CohortError
from willis.shared.likeness.coverage import coverage_and_density
from willis.shared.likeness.diversity import ms_ssim_diversity, ms_ssim_scales
from willis.shared.likeness.features import DIRECTIONS, RandomFeatures
from willis.shared.likeness.frechet import TrainingScale, frechet_distance
from willis.shared.likeness.morphology import morpho13
from willis.shared.likeness.patches import check_patches, degenerate_masks
from willis.shared.settings import Settings

LEAST_PATCHES = DIRECTIONS + 1
NOT_COVERED = (
    "These figures are statistics of real patients; not covered by epsilon. The privacy figure covers the "
    "generator and what is drawn from it, not these figures: nothing was paid for them."
)
COPIES_LOOK_BEST = (
    "No figure of likeness sees memorisation: copies of training patches score better than other real "
    "patches do. Read the audit beside them."
)

Better = Literal["lower", "higher", "as real"]


class LikenessFigure(Settings):
    """One figure of a set of synthetic patches.

    Attributes:
        name: What is measured, and in which features.
        value: Of synthetic patches (against real ones, or among themselves).
        real_against_real: The same of as many other real patches in their place: what can be reached.
        n: Patches in each of the sets compared.
        better: Which way is better; "as real" where a value on either side of the real one is worse.
    """

    name: str = Field(min_length=1)
    value: float
    real_against_real: float
    n: int = Field(ge=LEAST_PATCHES)
    better: Better


class LikenessSheet(Settings):
    """What a comparison of synthetic with real patches found.

    Attributes:
        figures: Each with its number of patches, and with real against real at that number.
        degenerate: Of the synthetic patches, see ``degenerate_masks``.
        degenerate_real: Of the other real patches.
        seed: Of the choice of patches, the random kernels and the pairs.
        covered_by_epsilon: Always false.
        note: What that means.
        memorisation: What no figure here can tell.
    """

    figures: tuple[LikenessFigure, ...] = Field(min_length=1)
    degenerate: dict[str, int]
    degenerate_real: dict[str, int]
    seed: int
    covered_by_epsilon: Literal[False] = False
    note: str = NOT_COVERED
    memorisation: str = COPIES_LOOK_BEST

    def figure(self, name: str) -> LikenessFigure:
        """Return one figure; ``KeyError`` where there is none of that name."""
        return {figure.name: figure for figure in self.figures}[name]


def likeness(
    fake: Float[Tensor, "fake channel *space"],
    real: Float[Tensor, "real channel *space"],
    reference: Float[Tensor, "other channel *space"],
    *,
    seed: int,
    n: int,
) -> LikenessSheet:
    """Compare synthetic with real patches in every figure, each beside real against real at the same number.

    1. Draw ``n`` patches of each set, without replacement.
    2. Fit both kinds of features (``randconv``, ``morpho13``) on all of ``real``.
    3. Compare fakes with real patches; then, in their place, the reference with the same real patches.

    Args:
        fake: Synthetic labelled patches, images in [-1, 1], label last.
        real: Real training patches: features are scaled on them, and both sets are compared with them.
        reference: Other real patches. Take them from other patients, else real against real looks too good.
        seed: Names every draw.
        n: Patches of each set, at least 25: with fewer, covariances of 24 features are singular.

    Returns:
        Frechet distance, coverage and density in both kinds of features, MS-SSIM of the images, and counts of
        degenerate masks. The name of ``randconv`` tells the channels, that of ``ms-ssim`` its scales.

    Raises:
        ValueError: Patches are not finite, not labelled, or of different sizes.
        CohortError: A set holds fewer than ``n`` patches, or ``n`` is below 25.
    """
    sets = {"fake": fake, "real": real, "reference": reference}
    _check_sets(sets, n=n)
    dice = torch.Generator().manual_seed(seed)
    drawn = {name: patches[_choice(len(patches), n, dice=dice)] for name, patches in sets.items()}
    figures = [
        *_in_random_features(drawn, training=real, seed=seed),
        *_in_morphology(drawn, training=real),
        _diversity(drawn, seed=seed),
    ]
    return LikenessSheet(
        figures=tuple(figures),
        degenerate=degenerate_masks(drawn["fake"]),
        degenerate_real=degenerate_masks(drawn["reference"]),
        seed=seed,
    )


def _check_sets(sets: dict[str, Float[Tensor, "..."]], *, n: int) -> None:
    for name, patches in sets.items():
        check_patches(patches, place=f"{name} patches")
    shapes = {name: tuple(patches.shape[1:]) for name, patches in sets.items()}
    if len(set(shapes.values())) > 1:
        raise ValueError(f"all patches must have one number of channels and one size, got {shapes}")
    if not n >= LEAST_PATCHES:
        raise CohortError(f"likeness needs n of at least {LEAST_PATCHES} patches in each set, got {n}")
    short = [
        f"{name}: {len(patches)} patches; give more, or ask for n = {len(patches)} or fewer"
        for name, patches in sets.items()
        if len(patches) < n
    ]
    if short:
        raise CohortError(f"likeness of {n} patches needs as many in each set", short)


def _choice(length: int, n: int, *, dice: torch.Generator) -> Tensor:
    return torch.randperm(length, generator=dice)[:n]


def _in_random_features(
    drawn: dict[str, Float[Tensor, "..."]], *, training: Float[Tensor, "..."], seed: int
) -> list[LikenessFigure]:
    features = RandomFeatures.fitted_on(training, seed=seed)
    space = f"randconv{training.shape[1]}ch"
    return _compared({name: features.of(patches) for name, patches in drawn.items()}, space=space)


def _in_morphology(
    drawn: dict[str, Float[Tensor, "..."]], *, training: Float[Tensor, "..."]
) -> list[LikenessFigure]:
    scale = TrainingScale.fitted_on(morpho13(training))
    return _compared({name: scale.of(morpho13(patches)) for name, patches in drawn.items()}, space="morpho13")


def _compared(features: dict[str, Float[Tensor, "n d"]], *, space: str) -> list[LikenessFigure]:
    """Return distance, coverage and density of fakes and of the reference, against the same real patches."""
    fake, real, reference = features["fake"], features["real"], features["reference"]
    ours, ceiling = coverage_and_density(fake, real), coverage_and_density(reference, real)
    values: tuple[tuple[str, float, float, Better], ...] = (
        ("fd", frechet_distance(fake, real), frechet_distance(reference, real), "lower"),
        ("coverage", ours.coverage, ceiling.coverage, "higher"),
        ("density", ours.density, ceiling.density, "as real"),
    )
    return [
        LikenessFigure(
            name=f"{figure}[{space}]", value=value, real_against_real=reached, n=len(real), better=better
        )
        for figure, value, reached, better in values
    ]


def _diversity(drawn: dict[str, Float[Tensor, "..."]], *, seed: int) -> LikenessFigure:
    """Return the MS-SSIM of the fakes' images among themselves; noise scores lowest of all."""
    fake, reference = (
        ms_ssim_diversity(drawn[name], dice=torch.Generator().manual_seed(seed))
        for name in ("fake", "reference")
    )
    return LikenessFigure(
        name=f"ms-ssim[{ms_ssim_scales(tuple(drawn['fake'].shape[2:]))} scales]",
        value=fake,
        real_against_real=reference,
        n=len(drawn["fake"]),
        better="as real",
    )
