"""The translators and the critics of what they make: p(image given map) (Isola, Park, Zhu)."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.game_plans import CycleganPlan, Pix2PixPlan, SpadePlan
from willis.shared.networks.patch_critic import PatchCritic
from willis.shared.networks.spade_generator import SpadeGenerator
from willis.shared.networks.translator import Translator
from willis.shared.recipes.game.contract import Losses
from willis.shared.recipes.translation.maps import Maps, blurred
from willis.shared.study import Study

Images = Float[Tensor, "patch image *space"]
Noise = Float[Tensor, "patch 1 *space"]

CRITIC, TRANSLATOR = "critic", "translator"
BACK_CRITIC, BACK_TRANSLATOR = "back-critic", "back-translator"

_MAP = 2  # channels of a map; a translator sees them and one of noise


def build_translator(study: Study) -> nn.Module:
    """Return the network from map and noise to image; torch's global dice throw its first weights."""
    images, width = len(study.patch.channels), study.networks.generator_width
    if isinstance(study.recipe, SpadePlan):
        return SpadeGenerator(
            size=study.patch.size,
            levels=study.recipe.levels,
            outputs=images,
            width=width,
            depth=study.networks.depth,
        )
    return Translator(dimensions=study.patch.dimensions, inputs=_MAP + 1, outputs=images, width=width)


def image_networks(study: Study) -> dict[str, nn.Module]:
    """Return the critic and the translator, and for cyclegan those of the way back."""
    size, images = study.patch.size, len(study.patch.channels)
    cyclic, width = isinstance(study.recipe, CycleganPlan), study.networks.critic_width
    shown = images if cyclic else _MAP + images
    players = {
        CRITIC: PatchCritic(size=size, channels=shown, width=width),
        TRANSLATOR: build_translator(study),
    }
    if cyclic:
        players[BACK_CRITIC] = PatchCritic(size=size, channels=_MAP, width=width)
        players[BACK_TRANSLATOR] = Translator(
            dimensions=study.patch.dimensions,
            inputs=images,
            outputs=_MAP,
            width=study.networks.generator_width,
        )
    return players


def noise_for(maps: Maps, dice: torch.Generator) -> Noise:
    """Return a normal variate a pixel; the dice are thrown on the CPU so that every device gets the same."""
    return torch.randn((len(maps), 1, *maps.shape[2:]), generator=dice).to(maps.device)


class PairedPlayers:
    """pix2pix and SPADE: the critic sees an image with its map, and the image is known.

    Losses (Isola 2017, equations 1 and 3, with the least squares of Mao 2017): the critic's is half the
    squared distance of its scores to 1 on the real image and to 0 on the translated one; the translator's is
    that to 1, and ``l1`` times the mean absolute difference of both images. Platscher's dropout is left out,
    since it throws torch's global dice (noise is a channel), and so is the pool of earlier fakes: with it
    one subject's gradient would depend on other subjects' images.

    Args:
        plan: The study's recipe.
        players: Critic and translator.
    """

    def __init__(self, plan: Pix2PixPlan | SpadePlan, players: Mapping[str, nn.Module]) -> None:
        self._l1 = plan.l1
        self._critic, self._translator = players[CRITIC], players[TRANSLATOR]

    def losses(self, maps: Maps, images: Images, dice: torch.Generator) -> Losses:
        """Return both players' losses on one unit's maps and images."""
        made = self._translator(torch.cat([maps, noise_for(maps, dice)], dim=1)).float()
        on_real = self._critic(torch.cat([maps, images], dim=1))
        on_made = self._critic(torch.cat([maps, made], dim=1))
        return {
            CRITIC: (off(on_real, 1.0) + off(on_made, 0.0)) / 2,
            TRANSLATOR: off(on_made, 1.0) + self._l1 * (made - images).abs().mean(),
        }


class CyclicPlayers:
    """CycleGAN: two translators that undo each other, each with a critic of what it makes (Zhu 2017).

    Losses (equations 1 to 3, with least squares): every critic as in :class:`PairedPlayers`, but it sees
    images, or maps, alone; both translators share the two critics' verdicts, ``cycle`` times the mean
    absolute differences after there and back, and ``agreement`` times that of a map's levels and the blurred
    image made for it, outside the label: which tissue is bright no cycle tells. No image is compared with
    its own map, whatever their order in a unit, so nothing is shuffled. There is no pool of earlier fakes,
    for the reason given there.

    Args:
        plan: The study's recipe.
        players: Both critics and translators.
    """

    def __init__(self, plan: CycleganPlan, players: Mapping[str, nn.Module]) -> None:
        self._plan = plan
        self._critic, self._translator = players[CRITIC], players[TRANSLATOR]
        self._back_critic, self._back = players[BACK_CRITIC], players[BACK_TRANSLATOR]

    def losses(self, maps: Maps, images: Images, dice: torch.Generator) -> Losses:
        """Return the four players' losses on one unit's maps and images."""
        there, again = noise_for(maps, dice), noise_for(maps, dice)
        made = self._translator(torch.cat([maps, there], dim=1)).float()
        read = self._back(images).float()
        maps_again = self._back(made).float()
        images_again = self._translator(torch.cat([read, again], dim=1)).float()
        on_made, on_read = self._critic(made), self._back_critic(read)
        apart = (maps_again - maps).abs().mean() + (images_again - images).abs().mean()
        joint = off(on_made, 1.0) + off(on_read, 1.0) + self._plan.cycle * apart
        if self._plan.agreement and self._plan.levels > 1:
            joint = joint + self._plan.agreement * self._disagreement(made, maps)
        return {
            CRITIC: (off(self._critic(images), 1.0) + off(on_made, 0.0)) / 2,
            BACK_CRITIC: (off(self._back_critic(maps), 1.0) + off(on_read, 0.0)) / 2,
            TRANSLATOR: joint,
            BACK_TRANSLATOR: joint,
        }

    def _disagreement(self, made: Images, maps: Maps) -> Float[Tensor, ""]:
        outside = (maps[:, 1:] <= 0).float()
        levels = blurred(made[:, :1], self._plan.blur)
        return ((levels - maps[:, :1]).abs() * outside).mean()


def off(scores: Tensor, target: float) -> Float[Tensor, ""]:
    """Return the mean squared distance of scores to a target (Mao 2017, equation 2, without its half)."""
    return ((scores.float() - target) ** 2).mean()
