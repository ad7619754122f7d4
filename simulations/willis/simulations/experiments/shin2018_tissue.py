"""Image to tissue by pix2pix: trained on simulated brains, whose tissues are known exactly; epsilon 0.

Shin 2018 trained it on ADNI, with FreeSurfer's segmentation for the truth. Here nobody's segmentation is
needed: a simulated brain comes with its tissues.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from monai.inferers.utils import sliding_window_inference
from pydantic import Field
from torch import Tensor, nn

from willis.client.cohort import Cohort
from willis.client.evaluation import load_cases
from willis.shared.metrics.masks import dice
from willis.shared.networks.build import public_generator
from willis.shared.networks.patch_critic import PatchCritic
from willis.shared.networks.start import arrays_of
from willis.shared.networks.translator import Translator
from willis.shared.patch import LabelledPatches, PatchSpec
from willis.shared.prior.brain import Matter
from willis.shared.recipes.network_sampler import load
from willis.shared.recipes.translation.image_players import off
from willis.shared.settings import Settings
from willis.simulations.experiments.experiment import Setting
from willis.simulations.experiments.lesion_cohort import draw_brain_patches
from willis.simulations.experiments.parts import kept_arrays, kept_values
from willis.simulations.progress import Advance

T1 = 1  # channel of the T1-like image in a patch of both
TISSUES = (Matter.FLUID, Matter.GREY, Matter.WHITE)
_AT_ONCE = 16  # patches
_L1 = 10.0  # weight of the mean absolute difference

Images = Float[Tensor, "patch 1 *space"]


class TissuePlan(Settings):
    """Sizes of the translation from T1 to tissue.

    Attributes:
        brains: Simulated brains to train on.
        tested: Others, to test on.
        steps: Of both optimisers.
        batch: Patches in one.
        width: Channels of translator and critic.
        rate: Learning rate of both.
    """

    brains: int = Field(ge=1)
    tested: int = Field(ge=1)
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    width: int = Field(ge=1)
    rate: float = Field(gt=0)


@dataclass(frozen=True, repr=False)
class TissueResult:
    """What came out.

    Attributes:
        dice: Mean over the tested brains, by tissue.
        network: From T1 to four tissues.
        shown: Tested brains: T1, the tissue found, the true one in place of a label's channel; [-1, 1].
    """

    dice: Mapping[str, float]
    network: Translator
    shown: LabelledPatches


def translate_to_tissue(setting: Setting, plan: TissuePlan, *, side: int, seed: int) -> TissueResult:
    """Train a pix2pix from T1 to tissue on simulated brains, and test it on others.

    Args:
        setting: Whose folder.
        plan: Sizes.
        side: Pixels of a patch along both axes.
        seed: Of brains, weights and batches.
    """

    def make() -> dict[str, np.ndarray]:
        train = draw_brain_patches(plan.brains, side=side, seed=seed)
        with setting.show.task("training T1 to tissue") as advance:
            return arrays_of(
                train_tissue(train.patches[:, T1 : T1 + 1], train.matter, plan, seed=seed, advance=advance)
            )

    network = Translator(dimensions=2, inputs=2, outputs=len(Matter), width=plan.width)
    load(network, kept_arrays(setting.folder, "tissue/network", make))
    tested = draw_brain_patches(plan.tested, side=side, seed=seed + 1)
    image = tested.patches[:, T1 : T1 + 1]
    found = tissue_of(network, image)
    scores = kept_values(setting.folder, "tissue/dice", lambda: tissue_dice(found, tested.matter))
    truth = torch.from_numpy(tested.matter.astype(np.int64))
    shown = torch.cat([image, as_grey(found), as_grey(truth)], dim=1)
    return TissueResult(scores, network, shown)


def train_tissue(
    images: Images,
    matter: UInt8[np.ndarray, " patch *space"],
    plan: TissuePlan,
    *,
    seed: int,
    advance: Advance,
) -> Translator:
    """Return a trained translator; both networks step on gradients at the same weights.

    Args:
        images: T1 in [-1, 1].
        matter: Of every pixel.
        plan: Steps, batch, width.
        seed: Of weights and batches.
        advance: Told the steps done, and in all.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(public_generator(seed, "tissue", "weights").initial_seed())
        translator = Translator(dimensions=2, inputs=2, outputs=len(Matter), width=plan.width)
        critic = PatchCritic(size=tuple(images.shape[2:]), channels=1 + len(Matter), width=plan.width)
    optimisers = [
        torch.optim.Adam(one.parameters(), lr=plan.rate, betas=(0.5, 0.999)) for one in (critic, translator)
    ]
    truth = as_channels(torch.from_numpy(matter.astype(np.int64)))
    drawn = public_generator(seed, "tissue", "batches")
    for step in range(plan.steps):
        picks = torch.randint(len(images), (plan.batch,), generator=drawn)
        losses = _losses(critic, translator, images[picks], truth[picks], drawn)
        for loss, one in zip(losses, (critic, translator), strict=True):
            weights = list(one.parameters())
            slopes = torch.autograd.grad(loss, weights, retain_graph=one is critic)
            for weight, slope in zip(weights, slopes, strict=True):
                weight.grad = slope
        for optimiser in optimisers:
            optimiser.step()
        advance(step + 1, plan.steps)
    return translator.eval()


def _losses(
    critic: PatchCritic,
    translator: Translator,
    images: Images,
    truth: Float[Tensor, "patch 4 *space"],
    drawn: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """The critic's and the translator's: least squares and L1, as of the recipe pix2pix (Isola 2017)."""
    noise = torch.randn(images.shape, generator=drawn)
    made = translator(torch.cat([images, noise], dim=1))
    on_real = critic(torch.cat([images, truth], dim=1))
    on_made = critic(torch.cat([images, made], dim=1))
    return (
        (off(on_real, 1.0) + off(on_made, 0.0)) / 2,
        off(on_made, 1.0) + _L1 * (made - truth).abs().mean(),
    )


@torch.no_grad()
def tissue_of(network: Translator, images: Images, *, window: int = 0) -> Int[Tensor, " patch *space"]:
    """Return the tissue of every pixel, by number.

    Args:
        network: Trained.
        images: T1 in [-1, 1].
        window: Side of the patches that it was trained on, which slide over larger images; 0 for images of
            that size.
    """

    def chances(shown: Images) -> Float[Tensor, "patch 4 *space"]:
        return network(torch.cat([shown, torch.zeros_like(shown)], dim=1))

    found = [
        sliding_window_inference(part, (window, window), _AT_ONCE, chances, overlap=0.5, mode="gaussian")
        if window
        else chances(part)
        for part in images.split(_AT_ONCE)
    ]
    return torch.cat([one.argmax(1) for one in found if isinstance(one, Tensor)])


def tissue_dice(
    found: Int[Tensor, " patch *space"], truth: UInt8[np.ndarray, " patch *space"]
) -> dict[str, float]:
    """Return the mean Dice over patches, by tissue; a patch without a tissue is left out of its mean."""
    means = {}
    for tissue in TISSUES:
        pairs = [(one.numpy() == tissue, other == tissue) for one, other in zip(found, truth, strict=True)]
        means[tissue.name.lower()] = float(np.mean([dice(one, other) for one, other in pairs if other.any()]))
    return means


def as_channels(matter: Int[Tensor, " patch *space"]) -> Float[Tensor, "patch 4 *space"]:
    """Return a channel for each tissue: 1 where a pixel is of it, else -1."""
    return 2.0 * nn.functional.one_hot(matter, len(Matter)).movedim(-1, 1).float() - 1


def as_grey(matter: Int[Tensor, " patch *space"]) -> Float[Tensor, "patch 1 *space"]:
    """Return tissues as greys in [-1, 1]."""
    return (2.0 * matter.float() / (len(Matter) - 1) - 1)[:, None]


def real_tissue(network: Translator, cohort: Cohort, spec: PatchSpec, *, shown: int = 4) -> LabelledPatches:
    """Return slices of real subjects: T1, the tissue found, and the lesion; there is no truth for tissue.

    Args:
        network: Trained.
        cohort: With a T1 as second channel.
        spec: That loads it.
        shown: Slices of each subject, those with the most lesion.

    Raises:
        CohortError: A scan cannot be used.
    """
    rows = []
    for subject in cohort.subjects:
        case = load_cases(subject, spec)[0]
        order = np.argsort(-case.truth.sum((0, 1)))[:shown].tolist()
        image = case.image[T1].permute(2, 0, 1)[order][:, None]
        lesion = torch.from_numpy(2.0 * case.truth[..., order] - 1).float().permute(2, 0, 1)[:, None]
        rows.append(
            torch.cat([image, as_grey(tissue_of(network, image, window=min(spec.size))), lesion], dim=1)
        )
    return torch.cat(rows)
