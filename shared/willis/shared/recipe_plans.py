"""The recipes that a study may name, and the keys of each: ``[recipe]`` of the study file."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag

from willis.shared.game_plans import CycleganPlan, DcganPlan, Pix2PixPlan, SpadePlan, WganGpPlan
from willis.shared.settings import Settings


class DpWganPlan(Settings):
    """A generator and a critic trained by private critic gradients (``[networks]`` and ``[training]``).

    All keys but the name are for protocol ``pooled``.

    Attributes:
        name: Which recipe.
        trained: Which of the critic's weights private gradients move (``networks.adapters``).
        generator_trained: The same of the generator, which is moved on fakes alone.
        rank: Of ``low-rank``.
        last_layers: How many layers ``last-layers`` moves, from the output.
        critic_warmup: Steps before the first round in which the whole critic learns prior draws against
            fakes; they cost nothing, and an adapter moves a critic that has learned something.
        adaptive: Let the generator step only in rounds whose private sum says that the critic scores real
            patches above fakes by more than the noise.
        refiner: Make images by refining prior draws, whose labels stay exact, instead of image and label
            from a latent vector.
        prior_draws: Prior draws that warm-up and refiner learn from.
    """

    name: Literal["dp-wgan"] = "dp-wgan"
    trained: Literal["all", "last-layers", "low-rank", "scale-and-shift"] = "all"
    generator_trained: Literal["all", "last-layers", "low-rank", "scale-and-shift"] = "all"
    rank: int = Field(default=4, ge=1, le=64)
    last_layers: int = Field(default=1, ge=1, le=8)
    critic_warmup: int = Field(default=0, ge=0, le=100_000)
    adaptive: bool = False
    refiner: bool = False
    prior_draws: int = Field(default=1024, ge=16, le=100_000)


class AppearancePlan(Settings):
    """Private means of how tissue and target look, plugged into the prior directly.

    Attributes:
        name: Which recipe.
        simulations: Public draws of the prior that statistics are counted from.
        told: Share of those draws that must tell a statistic, else it is not asked for.
        bound: L2 bound of a subject's statistics over their root mean square under the prior. Lower means
            less noise, and less of a subject who is unlike the prior.
        distrust: How far a modality may lie from the prior in ways in which the prior's draws do not
            differ among themselves, in their standard deviations.
        reach: Level and profile may lie at least this far from the prior's, in image units (-1 to 1); they
            may lie three of the prior's standard deviations from it anyway. A modality whose contrast has
            the other sign is about 1.5 away. A wider reach lets more noise in.
        candidates: Prior draws among which a patch chooses its target by the calibres that were learned.
        broad: Share of patches drawn from the untouched prior.
    """

    name: Literal["appearance"]
    simulations: int = Field(default=600, ge=50, le=50_000)
    told: float = Field(default=0.05, gt=0, le=1)
    bound: float = Field(default=0.8, gt=0, le=100)
    distrust: float = Field(default=0.3, ge=0, le=100)
    reach: float = Field(default=0.0, ge=0, le=2)
    candidates: int = Field(default=3, ge=1, le=64)
    broad: float = Field(default=0.2, ge=0, le=1)


class AtlasPlan(Settings):
    """Templates of an organ and its surroundings, and how shape and appearance vary about them.

    Attributes:
        name: Which recipe.
        detail: Highest frequency of a template's image, in cycles a pixel.
        border_detail: Highest frequency of its distances to the label's border, in cycles a pixel.
        warp_periods: Highest frequency of a displacement, in periods over the patch's last side.
        doubt: Noise of an answer's coordinate at which half of the draws come from the untouched prior, and
            half from the atlas; less noise, more atlas.
    """

    name: Literal["atlas"]
    detail: float = Field(default=0.2, gt=0, le=0.5)
    border_detail: float = Field(default=0.125, gt=0, le=0.5)
    warp_periods: float = Field(default=1.5, gt=0, le=8)
    doubt: float = Field(default=0.03, gt=0, le=1)


class _CloudPlan(Settings):
    """Keys of the recipes that release a cloud of the prior's parameter vectors.

    Attributes:
        identified: A parameter is fixed where its spread fell below this share of its spread in the prior,
            or its mean moved by more than 2.5 times what is missing to 1.
        vectors: Parameter vectors released.
        broad: Share of patches drawn from the untouched prior.
    """

    identified: float = Field(default=0.8, gt=0, le=1)
    vectors: int = Field(default=256, ge=16, le=4096)
    broad: float = Field(default=0.3, ge=0, le=1)


class TunedPriorPlan(_CloudPlan):
    """The prior's parameters, inferred from private means of a few statistics.

    Attributes:
        name: Which recipe.
        simulations: Public draws of the prior that the statistics are understood from.
        bound: L2 bound of a subject's statistics over their root mean square under the prior. Lower means
            less noise, and less of a subject who is unlike the prior.
        distrust: How far the prior's statistics may be off the modality's, in their standard deviations
            under the prior; added to the noise.
        least_draws: Public draws that must carry weight (effective sample size) after tuning.
    """

    name: Literal["tuned-prior"]
    simulations: int = Field(default=2000, ge=100, le=50_000)
    bound: float = Field(default=2.5, gt=0, le=100)
    distrust: float = Field(default=0.2, ge=0, le=100)
    least_draws: int = Field(default=40, ge=2, le=10_000)


class VotedPriorPlan(_CloudPlan):
    """Prior draws that private votes choose, then mutate (Private Evolution, Lin et al. 2024).

    Attributes:
        name: Which recipe.
        candidates: Parameter vectors that subjects vote for, in every round.
        variations: Patches drawn of each candidate; their mean embedding stands for it.
        threshold: Votes below this multiple of their noise count as none.
        smoothing: Width of the public kernel that shares votes among alike candidates, in median
            distances from a candidate to its nearest.
        mutation: Standard deviation of what a round adds to a chosen candidate, as a share of each
            parameter's range; halved every round.
    """

    name: Literal["voted-prior"]
    candidates: int = Field(default=96, ge=8, le=4096)
    variations: int = Field(default=4, ge=1, le=64)
    threshold: float = Field(default=2.0, ge=0, le=20)
    smoothing: float = Field(default=0.5, gt=0, le=100)
    mutation: float = Field(default=0.1, ge=0, le=1)


class MerfPlan(Settings):
    """A generator fitted to one private mean embedding (DP-MERF, Harder et al. 2021).

    Attributes:
        name: Which recipe.
        frequencies: Random frequencies; the embedding has a cosine and a sine of each.
        bandwidth: Of the Gaussian kernel, in median distances between prior draws.
        coarsest: Sides of a patch are averaged down to at most this many cells before the projections.
        steps: Adam steps of the generator in a round, on public fakes.
        lr: Learning rate of those steps.
        shrink: Move the noisy embedding towards the starting generator's own where it cannot be told from
            noise (positive-part James-Stein). Off, the recipe is the published one.
    """

    name: Literal["dp-merf"]
    frequencies: int = Field(default=500, ge=8, le=50_000)
    bandwidth: float = Field(default=1.0, gt=0, le=100)
    coarsest: int = Field(default=16, ge=2, le=512)
    steps: int = Field(default=400, ge=1, le=1_000_000)
    lr: float = Field(default=2e-4, gt=0, le=1)
    shrink: bool = True


def _named(value: object) -> object:
    return value.get("name") if isinstance(value, dict) else getattr(value, "name", None)


RecipePlan = Annotated[
    Annotated[DpWganPlan, Tag("dp-wgan")]
    | Annotated[AppearancePlan, Tag("appearance")]
    | Annotated[AtlasPlan, Tag("atlas")]
    | Annotated[TunedPriorPlan, Tag("tuned-prior")]
    | Annotated[VotedPriorPlan, Tag("voted-prior")]
    | Annotated[MerfPlan, Tag("dp-merf")]
    | Annotated[DcganPlan, Tag("dcgan")]
    | Annotated[WganGpPlan, Tag("wgan-gp")]
    | Annotated[Pix2PixPlan, Tag("pix2pix")]
    | Annotated[SpadePlan, Tag("spade")]
    | Annotated[CycleganPlan, Tag("cyclegan")],
    Discriminator(
        _named,
        custom_error_type="recipe",
        custom_error_message=(
            "name must be one of dp-wgan, appearance, atlas, tuned-prior, voted-prior, dp-merf, dcgan, "
            "wgan-gp, pix2pix, spade, cyclegan"
        ),
    ),
]
