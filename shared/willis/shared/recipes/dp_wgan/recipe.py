"""Recipe ``dp-wgan``: a generator that follows a critic, the critic moved by private gradients.

Under protocol ``local`` sites train and differences of generators are averaged; the recipe then only says
what the first generator is, and draws from the last. Under ``pooled`` the coordinator holds both networks,
and a round is one private sum of critic gradients over all sites.
"""

from functools import cache

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.errors import StudyError
from willis.shared.networks.build import public_generator
from willis.shared.networks.critic import project
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.prior_draws import draw_prior
from willis.shared.recipe_plans import DpWganPlan
from willis.shared.recipes.contract import PooledMean
from willis.shared.recipes.demands import plan_of
from willis.shared.recipes.dp_wgan.question import CENTRE, CRITIC, CriticQuestion
from willis.shared.recipes.dp_wgan.state import EMA, Coordinator, source_of
from willis.shared.recipes.dp_wgan.trainee import Trainee
from willis.shared.recipes.dp_wgan.warmup import warm_up
from willis.shared.recipes.named_parts import part
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.recipes.precision import precision_of
from willis.shared.study import Study
from willis.shared.update import Arrays

_SCORE = "score.weight"  # the critic's last weights: its score is linear in them


class DpWganRecipe:
    """The recipe for one study.

    Args:
        study: The protocol.

    Raises:
        StudyError: Keys of ``[recipe]`` that need protocol ``pooled``, or a refiner of more than one image
            channel.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._plan = plan_of(study, DpWganPlan)
        self._prior = cache(lambda: draw_prior(study, self._plan.prior_draws, purpose="dp-wgan"))
        self._pooled = study.training.protocol == "pooled"
        changed = sorted(set(self._plan.model_dump(exclude_defaults=True)))
        if changed and not self._pooled:
            raise StudyError(f'recipe: {", ".join(changed)} need training.protocol = "pooled", got "local"')
        if self._plan.refiner and study.patch.n_channels != 2:
            raise StudyError(
                "recipe.refiner needs one image channel, as prior draws have, got "
                f"{study.patch.n_channels - 1}"
            )

    def start(self) -> dict[str, np.ndarray]:
        """Return the state before the first round: the generator; with ``pooled`` also critic and optimisers.

        The critic has taken ``recipe.critic_warmup`` public steps.
        """
        if not self._pooled:
            return arrays_of(initial_generator(self._study))
        coordinator = Coordinator.first(self._study, self._prior)
        critic = coordinator.critic.network
        project(critic, self._study.networks)
        if self._plan.critic_warmup:
            # all of it learns, with moments of its own: private steps start without any
            whole = Trainee.fresh(self._study, critic, "all", rate=self._study.training.critic_lr)
            warm_up(
                whole, coordinator.source, self._study, steps=self._plan.critic_warmup, prior=self._prior()
            )
        return coordinator.arrays()

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return the critic's weights, and the public gradient on fakes where privacy is ``fake_centred``."""
        coordinator = self._read(state)
        order = {CRITIC + name: value for name, value in arrays_of(coordinator.critic.network).items()}
        if self._study.privacy.fake_centred:
            order[CENTRE] = self._on_fakes(coordinator, number).numpy()
        return order

    def question(self, order: Arrays, *, number: int) -> CriticQuestion:
        """Return what a site asks of each unit; see there."""
        self._needs_pooled()
        return CriticQuestion(self._study, order)

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state after a round.

        Steps:
            1. The gradient of E f(fake) - E f(real): the answer, and the public part unless it was in it.
            2. A step of the critic's optimiser along ``recipe.trained``, and the projection of the critic.
            3. After every ``critic_per_generator``-th round ``generator_steps`` of the generator, on fakes
               alone; with ``recipe.adaptive`` only if the answer says that the critic tells real from fake.
            4. The generator's mean over the rounds.

        Raises:
            ValueError: The answer has another length than the question.
        """
        coordinator = self._read(state)
        critic, training = coordinator.critic, self._study.training
        length = critic.adapter.length
        if answer.mean.shape != (length,):
            raise ValueError(f"the answer must have {length} coordinates, got shape {answer.mean.shape}")
        gradient = torch.from_numpy(answer.mean.astype(np.float32))
        if not self._study.privacy.fake_centred:
            gradient = gradient + self._on_fakes(coordinator, number)
        follows = number % training.critic_per_generator == 0
        if self._plan.adaptive:
            follows = follows and tells_apart(critic, gradient, std=answer.std)
        critic.descend(gradient)
        project(critic.network, self._study.networks)
        if follows:
            self._step_generator(coordinator, number)
        coordinator.follow(training.ema)
        return coordinator.arrays()

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the weights that draw: with ``pooled`` the generator's mean over the rounds."""
        return part(state, EMA) if self._pooled else dict(state)

    def sampler(self, arrays: Arrays) -> NetworkSampler:
        """Return what draws from a release's weights."""
        return NetworkSampler(self._study, arrays, source_of(self._study, self._prior, warm=False))

    def _read(self, state: Arrays) -> Coordinator:
        self._needs_pooled()
        return Coordinator.read(self._study, self._prior, state)

    def _needs_pooled(self) -> None:
        if not self._pooled:
            raise StudyError('training.protocol is "local": sites train, and answer no question')

    def _on_fakes(self, coordinator: Coordinator, number: int) -> Float[Tensor, " coordinate"]:
        """The gradient of the mean score of a round's fakes: exact, and the same for order and learn."""
        dice = public_generator(self._study.seed, "fakes", number)
        critic = coordinator.critic
        with precision_of(self._study, critic.network):
            with torch.no_grad():
                fakes = coordinator.source.draw(self._study.training.fakes, dice)
            loss = critic.network(fakes).float().mean()
        return critic.gradient(loss)

    def _step_generator(self, coordinator: Coordinator, number: int) -> None:
        """Descend -E f(fake): no private record is near, so it costs nothing."""
        training = self._study.training
        dice = public_generator(self._study.seed, "round", number)
        critic, generator = coordinator.critic.network, coordinator.generator
        for _ in range(training.generator_steps):
            with precision_of(self._study, critic):
                loss = -critic(coordinator.source.draw(training.fakes, dice)).float().mean()
            generator.descend(generator.gradient(loss))


def tells_apart(critic: Trainee, gradient: Float[Tensor, " coordinate"], *, std: float) -> bool:
    """Whether a private gradient says that the critic scores real patches above fakes, beyond its noise.

    The critic's score is linear in its last weights w, so the gradient there is E h(fake) - E h(real) of the
    features h below, and -<w, gradient> is how much higher real ones score (shorter where units were
    clipped, never of another sign). It is computed from a private sum, so it costs nothing more. A
    Wasserstein critic has no accuracy to steer by: a constant added to it changes nothing.

    Args:
        critic: As it was when the gradient was taken; its last weights must move.
        gradient: Of E f(fake) - E f(real), in coordinates.
        std: Of the noise in each coordinate.
    """
    weight = dict(critic.network.named_parameters())[_SCORE].detach().flatten()
    slope = critic.adapter.push(gradient.to(weight.device))[_SCORE].flatten()
    gap = -float(weight @ slope)
    return gap > std * float(weight.norm())
