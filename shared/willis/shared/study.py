"""The protocol every site signs: one TOML file, frozen and hashed."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from willis.shared.federation_plan import FederationPlan, Name
from willis.shared.patch import PatchSpec
from willis.shared.prior.families import Family, check_ranges
from willis.shared.privacy import PrivacyBudget, PrivacyUnit
from willis.shared.recipe_plans import DpWganPlan, RecipePlan
from willis.shared.settings import Settings, parse, read_toml, refuse


class PriorPlan(Settings):
    """The public, procedural prior of this study (epsilon 0).

    Attributes:
        family: Which prior.
        ranges: Low and high of the parameters that differ from the family's own, by name.
    """

    family: Family
    ranges: dict[str, tuple[float, float]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _known(self) -> "PriorPlan":
        check_ranges(self.family, self.ranges)
        return self


class NetworkPlan(Settings):
    """Generator and critic.

    Attributes:
        latent: Length of the generator's latent vector.
        generator_width: Channels of the generator's last hidden layer; doubled at every halving.
        critic_width: Channels of the critic's first layer; doubled at every halving.
        depth: How often the patch is halved; every side must be a multiple of 2 ** depth.
        constraint: What keeps the critic Lipschitz after every step: its layers' spectral norms
            projected to at most ``spectral_bound``, or its weights clipped to ``weight_clip``.
        spectral_bound: Bound of each layer under ``spectral``; at 1 a stack of strided layers and leaky
            units damps what it is shown.
        weight_clip: Bound of every weight of the critic under ``weight-clip``.
    """

    latent: int = Field(default=64, ge=1, le=4096)
    generator_width: int = Field(default=32, ge=1, le=1024)
    critic_width: int = Field(default=32, ge=1, le=1024)
    depth: int = Field(default=4, ge=1, le=7)
    constraint: Literal["spectral", "weight-clip"] = "spectral"
    spectral_bound: float = Field(default=2.0, gt=0)
    weight_clip: float = Field(default=0.01, gt=0)


class PrivacyPlan(PrivacyBudget):
    """The budget, and the mechanism that spends it (see ``client.private_sum``).

    Attributes:
        clip_norm: L2 bound of one unit's vector.
        sampling_rate: Chance that a unit takes part in one draw (Poisson).
        fake_centred: Clip the gradient on real patches minus the public mean gradient on fakes.
    """

    clip_norm: float = Field(default=1.0, gt=0)
    sampling_rate: float = Field(gt=0, le=1)
    fake_centred: bool = True


class TrainingPlan(Settings):
    """How generator and critic are trained.

    Attributes:
        protocol: ``local``: a site steps its own critic and the generator from the global model, and sends
            what that moved. ``pooled``: a site answers each round with one private sum, and the coordinator
            learns from the sum over all sites.
        rounds: Rounds of the whole study.
        critic_steps: Private critic steps a site takes in a round; each is one fresh draw. Under ``pooled``
            a round is one draw: 1.
        critic_per_generator: Critic steps between two groups of generator steps.
        generator_steps: Generator steps in such a group; they see fakes only and cost nothing.
        patches_per_bag: Patches of one subject in one draw.
        fakes: Generated patches in one critic or generator step.
        optimiser: Of critic and generator.
        critic_lr: Learning rate of the critic.
        generator_lr: Learning rate of the generator.
        betas: Of Adam.
        ema: Weight that the released generator keeps of its past at every round, in [0, 1).
        warm_start: Name of a generator trained on prior draws (epsilon 0), or ``none``.
        device: ``auto`` takes CUDA where there is one.
        precision: Of forward and backward passes; sums, clipping and noise are always float32.
    """

    protocol: Literal["local", "pooled"] = "local"
    rounds: int = Field(ge=1, le=100_000)
    critic_steps: int = Field(default=1, ge=1, le=100_000)
    critic_per_generator: int = Field(default=1, ge=1)
    generator_steps: int = Field(default=1, ge=1)
    patches_per_bag: int = Field(default=16, ge=1)
    fakes: int = Field(default=64, ge=1)
    optimiser: Literal["adam", "rmsprop"] = "adam"
    critic_lr: float = Field(default=2e-4, gt=0)
    generator_lr: float = Field(default=1e-4, gt=0)
    betas: tuple[float, float] = (0.0, 0.9)
    ema: float = Field(default=0.5, ge=0, lt=1)
    warm_start: str = "none"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["float32", "bfloat16"] = "float32"

    @model_validator(mode="after")
    def _sane(self) -> "TrainingPlan":
        pooled = self.protocol == "pooled"
        if pooled and self.critic_steps != 1:
            raise ValueError(
                f'critic_steps must be 1 where protocol is "pooled" (a round is one draw), '
                f"got {self.critic_steps}"
            )
        most, where = (self.rounds, "rounds") if pooled else (self.critic_steps, "critic_steps")
        if self.critic_per_generator > most:
            raise ValueError(
                f"critic_per_generator must be at most {where} ({most}), "
                f"got {self.critic_per_generator}: the generator would never step"
            )
        if not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas must lie in [0, 1), got {self.betas}")
        return self

    @property
    def draws(self) -> int:
        """Private draws of a site over the whole study: each is one private sum."""
        return self.rounds * self.critic_steps


class UsePlan(Settings):
    """How the release is judged: a U-net trained on it, tested on real subjects.

    Attributes:
        synthetic_pairs: Patches drawn from the release, and from the prior.
        held_out: In a simulation, share of every site's subjects that never trains and is tested on. In a
            federation nobody is held out: every subject of a site's table trains.
        unet_steps: Optimiser steps of every U-net.
        unet_batch: Patches in one of them.
        unet_width: Channels of its first layer.
        seeds: U-nets trained for each row.
    """

    synthetic_pairs: int = Field(default=2000, ge=16)
    held_out: float = Field(default=0.2, gt=0, lt=1)
    unet_steps: int = Field(default=600, ge=1)
    unet_batch: int = Field(default=32, ge=1)
    unet_width: int = Field(default=16, ge=1)
    seeds: int = Field(default=1, ge=1, le=20)


class Study(Settings):
    """The protocol every site signs.

    Attributes:
        name: What the study is called.
        seed: Of everything public: first weights, latent vectors, prior draws, splits. Never of noise,
            nor of who takes part in a step.
    """

    name: Name
    seed: int = Field(default=0, ge=0, lt=2**32)
    patch: PatchSpec
    prior: PriorPlan
    recipe: RecipePlan = DpWganPlan()
    networks: NetworkPlan = NetworkPlan()
    privacy: PrivacyPlan
    training: TrainingPlan
    federation: FederationPlan
    use: UsePlan = UsePlan()

    @model_validator(mode="after")
    def _fits(self) -> "Study":
        faults = []
        unit = 2**self.networks.depth
        if any(side % unit or side // unit < 2 for side in self.patch.size):
            faults.append(
                f"patch.size must be multiples of 2 ** networks.depth = {unit}, and at least twice it, "
                f"got {self.patch.size}"
            )
        least = min(site.subjects for site in self.federation.sites)
        if self.federation.minimum_subjects > least:
            faults.append(
                f"federation.minimum_subjects must be at most what every site declares ({least}), "
                f"got {self.federation.minimum_subjects}"
            )
        most = max(site.subjects for site in self.federation.sites)
        most = max(site.subjects for site in self.federation.sites)
        if self.privacy.unit is PrivacyUnit.PATCH:
            most *= self.patch.per_subject
        if self.privacy.delta * most >= 1:
            faults.append(
                f"privacy.delta must be below 1 / units = {1 / most:g} at the largest site, "
                f"got {self.privacy.delta:g}"
            )
        if self.training.patches_per_bag > self.patch.per_subject:
            faults.append(
                f"training.patches_per_bag must be at most patch.per_subject ({self.patch.per_subject}), "
                f"got {self.training.patches_per_bag}"
            )
        if self.training.protocol == "local" and self.recipe.name != "dp-wgan":
            faults.append(
                f'training.protocol must be "pooled" for recipe {self.recipe.name}: its sites answer with '
                'sums; only dp-wgan knows "local"'
            )
        if self.training.protocol == "local" and self.federation.secure is not None:
            faults.append('federation.secure needs training.protocol = "pooled": it adds up private sums')
        refuse(faults)
        return self


def read_study(path: Path) -> Study:
    """Read a study from TOML.

    Raises:
        StudyError: With every fault and the path of its key.
    """
    return read_toml(path, Study)


def parse_study(text: str, *, where: str) -> Study:
    """Read a study from the JSON text that travels; see :func:`read_study`."""
    import json

    from willis.shared.errors import StudyError

    try:
        values = json.loads(text)
    except ValueError as fault:
        raise StudyError(f"{where} is not valid JSON") from fault
    return parse(values, Study, where=where)
