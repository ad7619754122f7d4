"""The DCGAN of Kossen 2021: label smoothing, feature matching, minibatch discrimination."""

import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.game_plans import DcganPlan
from willis.shared.patch import LabelledPatches
from willis.shared.privacy import PrivacyUnit
from willis.shared.recipes.game.contract import Losses
from willis.shared.recipes.gan.losses import feature_distance, told_apart, towards
from willis.shared.recipes.gan.networks import first_critic
from willis.shared.recipes.gan.pair import CRITIC, GENERATOR, Pair
from willis.shared.study import Study

_STATISTIC = 0.25  # of the clip: what a statistic of unit features takes of a unit's vector
_SILENT = 32  # coordinates of a statistic that are zero in every unit: what comes back is the noise
_HEARD = 3.0  # the sum of the units' ones must be above so many standard deviations of it


class DcganGame(Pair):
    """A generator and a critic in cross entropy (Radford 2016; Salimans 2016).

    The critic's loss is that of a unit's patches, with smoothed targets, plus that of the round's fakes; the
    generator's is the non-saturating one plus ``feature_matching`` times a distance of mean features. Batch
    normalisation and minibatch discrimination are over one unit's patches, and over groups of as many fakes,
    so that neither tells real from fake by a group's size. A unit's patches come from one patient, so that
    the critic compares fakes with the alikeness among patches of one patient.

    Mean features come with the private sum: of the critic that the sites were shown, one step behind the
    one that fakes are compared by. A unit gives s * (1, features, zeros), clipped along with its gradient;
    features over ones is the mean over units, weighted by how little each was clipped, and the zeros come
    back as the noise, and tell how large it is. Matching noise would drive the generator anywhere, so the
    mean is moved towards the fakes' own as far as noise may be all that parts them; where even the ones are
    not heard above it, a step goes without matching.

    Args:
        study: The protocol.
        plan: Its recipe's keys.

    Raises:
        StudyError: Groups of one patch, or fakes that make no whole groups.
    """

    shown = (CRITIC,)

    def __init__(self, study: Study, plan: DcganPlan) -> None:
        super().__init__(
            study,
            plan,
            critic=lambda: first_critic(
                study,
                kernel=plan.kernel,
                normalisation="batch",
                minibatch_kernels=plan.minibatch_kernels,
            ),
        )
        self._plan = plan
        per_bag = study.privacy.unit is PrivacyUnit.SUBJECT
        self._together = study.training.patches_per_bag if per_bag else 1
        if plan.minibatch_kernels and self._together < 2:
            raise StudyError(
                f"recipe.minibatch_kernels compares patches of one unit, which has 1 here, got "
                f'{plan.minibatch_kernels}: set 0, or privacy.unit = "subject" and training.patches_per_bag '
                "of at least 2"
            )
        if study.training.fakes % self._together:
            raise StudyError(
                f"training.fakes must be a multiple of training.patches_per_bag ({self._together}) for "
                f"recipe dcgan, whose critic is shown fakes in groups as large; got {study.training.fakes}"
            )
        features = study.networks.critic_width * 2 ** (study.networks.depth - 1)
        self.statistics = 1 + features + _SILENT if plan.feature_matching else 0
        self._scale = _STATISTIC * study.privacy.clip_norm / (1 + features) ** 0.5

    def private(self, patches: LabelledPatches, dice: torch.Generator) -> Losses:
        """Return the critic's loss over one unit's patches; each has a target from the dice."""
        low, high = self._plan.label_smoothing
        targets = low + (high - low) * torch.rand(len(patches), generator=dice)
        return {CRITIC: towards(self.critic(patches), targets)}

    def public(self, dice: torch.Generator) -> Losses:
        """Return the critic's loss over a round's fakes."""
        return {CRITIC: towards(self.critic(self._fakes(dice), self._together), 0.0)}

    def statistic(self, patches: LabelledPatches) -> Float[Tensor, " statistic"]:
        """Return s * (1, mean features of one unit's patches, zeros)."""
        features = self.critic.judge(patches)[1].float().mean(0)
        return self._scale * torch.cat([features.new_ones(1), features, features.new_zeros(_SILENT)])

    def free(self, dice: torch.Generator, statistic: Float[Tensor, " statistic"]) -> Losses:
        """Return the generator's loss over fresh fakes."""
        fakes = self.generator.draw(self._study.training.fakes, dice)
        scores, features = self.critic.judge(fakes, self._together)
        loss = towards(scores, 1.0)
        if self.statistics:
            real = _mean_features(statistic, features.detach().float().mean(0).cpu())
            loss = loss + self._plan.feature_matching * feature_distance(features, real)
        return {GENERATOR: loss}


def _mean_features(
    statistic: Float[Tensor, " statistic"], fakes: Float[Tensor, " feature"]
) -> Float[Tensor, " feature"]:
    """The real patches' mean features as far as a noisy statistic tells them, else those of the fakes."""
    ones, told, silent = statistic.split([1, len(statistic) - 1 - _SILENT, _SILENT])
    variance, heard = float(silent.square().mean()), float(ones)
    if not heard > _HEARD * variance**0.5:
        return fakes
    return told_apart(told / heard, fakes, variance=variance / heard**2)
