"""One private step of the critic: the only place where training meets a patient."""

from collections.abc import Iterable, Iterator

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.client.chance import Chance
from willis.client.private_sum import Vector, private_sum
from willis.client.sampling import draw_units
from willis.client.store import PatchStore
from willis.shared.privacy import PrivacyUnit
from willis.shared.study import Study


def private_critic_gradient(
    critic: nn.Module,
    fakes: Float[Tensor, "patch channel *space"],
    *,
    store: PatchStore,
    study: Study,
    declared_subjects: int,
    noise_multiplier: float,
    chance: Chance,
) -> list[Tensor]:
    """Return the gradient of the Wasserstein loss E f(fake) - E f(real), private in the real part.

    Steps:
        1. Draw units by Poisson.
        2. The mean gradient on fakes: exact, it costs nothing.
        3. For each unit the gradient of -mean f over its bag (one backward pass); with
           ``fake_centred`` the public gradient on fakes is added before clipping, because the difference is
           shorter than either (method.md, fake-centred clipping); else after the sum.
        4. The private sum, divided by the public expected number of units.

    Args:
        critic: On its device.
        fakes: Generated patches on the same device, without a graph.
        store: The cohort's patches.
        study: Its clip, sampling rate, unit and precision.
        declared_subjects: The study's public figure for this site.
        noise_multiplier: Standard deviation of the noise in units of the clip.
        chance: Dice of this reservation.
    """
    plan = study.privacy
    parameters = list(critic.parameters())
    # autocast, as a gradient of half-precision passes, still arrives in the parameters' float32
    precision = torch.autocast(
        fakes.device.type, torch.bfloat16, enabled=study.training.precision == "bfloat16"
    )
    with precision:
        on_fakes = torch.autograd.grad(critic(fakes).float().mean(), parameters)
    per_subject = plan.unit is PrivacyUnit.SUBJECT
    n_units = store.n_subjects if per_subject else store.n_patches
    declared = declared_subjects if per_subject else declared_subjects * study.patch.per_subject
    chosen = draw_units(n_units, plan.sampling_rate, chance.units)
    if per_subject:
        bags = (store.bag(unit, study.training.patches_per_bag, chance.bags) for unit in chosen)
        with precision:
            total = _sum(bag_gradients(critic, bags), on_fakes, study, noise_multiplier, chance)
    else:
        from willis.client.patch_gradients import patch_gradients  # Opacus: half a second that others save

        patches = (store.patch(unit, chance.bags) for unit in chosen)
        with precision:
            total = _sum(patch_gradients(critic, patches), on_fakes, study, noise_multiplier, chance)
    real = [part / (plan.sampling_rate * declared) for part in total]
    if plan.fake_centred:
        return real
    return [part + public for part, public in zip(real, on_fakes, strict=True)]


def _sum(
    vectors: Iterator[Vector], on_fakes: Vector, study: Study, noise_multiplier: float, chance: Chance
) -> list[Tensor]:
    if study.privacy.fake_centred:
        vectors = ([a + b for a, b in zip(vector, on_fakes, strict=True)] for vector in vectors)
    return private_sum(
        vectors,
        like=on_fakes,
        clip_norm=study.privacy.clip_norm,
        noise_multiplier=noise_multiplier,
        noise=chance.noise,
    )


def bag_gradients(
    critic: nn.Module, bags: Iterable[Float[Tensor, "patch channel *space"]]
) -> Iterator[Vector]:
    """Yield the gradient of -mean f over one subject's bag after another: one vector a subject."""
    parameters = list(critic.parameters())
    for bag in bags:
        yield torch.autograd.grad(-critic(bag.to(parameters[0].device)).float().mean(), parameters)
