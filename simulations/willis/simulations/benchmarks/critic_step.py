"""One private critic step beside the non-private one, on the same patches, and beside peers.

Every way takes the same 64 real patches (4 subjects with 16 each) and 64 fakes, gets a gradient, adds noise
where it is private, steps Adam and projects the spectrum. Willis' row is the very function that training
calls, drawing of subjects, reading and flipping of patches included. Ways alternate within a repeat, so that
whatever else the machine does falls on all of them; the figures are medians of ratios to the non-private step
of the same repeat.
"""

import copy
import statistics
import time
import warnings
from collections.abc import Callable

import numpy as np
import torch
from opacus import GradSampleModule
from opacus.grad_sample import GradSampleModuleFastGradientClipping
from torch import Tensor, nn

from willis.client.chance import Chance
from willis.client.critic_step import private_critic_gradient
from willis.client.randomness import SecretRandom
from willis.client.store import FORMAT, Index, PatchStore
from willis.shared.networks.critic import Critic, project
from willis.shared.settings import parse
from willis.shared.study import NetworkPlan, Study
from willis.simulations.benchmarks.report import Measured

_SUBJECTS, _BAG, _CLIP, _NOISE = 4, 16, 1.0, 1.0
_KEPT_BY_OPACUS = "grad_sample"  # the attribute of a parameter
Gradient = Callable[[Critic, Tensor, Tensor], list[Tensor]]


def run(quick: bool = False) -> Measured:
    """Measure at 64x64 and 96x96, width 64 (the papers' 96 too on a GPU); ``quick`` takes width 8."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    widths = [8] if quick else [64, 96] if device.type == "cuda" else [64]
    rows = []
    for width in widths:
        for side in (64, 96):
            rows += _measure(width, side, device, repeats=3 if quick else 7)
    how = (
        "Seconds and ratio to the non-private step of the same repeat (medians of alternating repeats). "
        f"{_SUBJECTS * _BAG} real patches ({_SUBJECTS} subjects with {_BAG} each), as many fakes, two "
        "channels, depth 4, float32. Subject level: Willis. Patch level: the peers, as they clip per patch."
    )
    return Measured("critic-step", how, ("width", "side", "way", "unit", "seconds", "ratio"), rows)


def _measure(width: int, side: int, device: torch.device, *, repeats: int) -> list[list]:
    dice = np.random.default_rng(0)
    patches = dice.uniform(-1, 1, (2, _SUBJECTS * _BAG, 2, side, side)).astype(np.float16)
    real, fakes = (torch.from_numpy(some.astype(np.float32)).to(device) for some in patches)
    ways = _ways(_willis(_study(width, side), patches[0]))
    taken: dict[str, list[float]] = {name: [] for name in ways}
    steps = {name: _step(width, side, device, gradient) for name, (_, gradient) in ways.items()}
    # The critic's input needs no gradient, which Opacus' hooks remark on at every step.
    warnings.filterwarnings("ignore", message="Full backward hook is firing", category=UserWarning)
    for repeat in range(repeats + 1):
        for name, step in steps.items():
            started = time.perf_counter()
            step(real, fakes)
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:  # the first warms up
                taken[name].append(time.perf_counter() - started)
    base = taken["non-private"]
    ratios = {name: np.divide(seconds, base).tolist() for name, seconds in taken.items()}
    return [
        [width, side, name, unit, statistics.median(taken[name]), statistics.median(ratios[name])]
        for name, (unit, _) in ways.items()
    ]


def _step(
    width: int, side: int, device: torch.device, gradient: Gradient
) -> Callable[[Tensor, Tensor], None]:
    torch.manual_seed(0)
    critic = Critic(size=(side, side), channels=2, width=width, depth=4).to(device)
    optimiser = torch.optim.Adam(critic.parameters(), 1e-4)

    def step(real: Tensor, fakes: Tensor) -> None:
        for parameter, slope in zip(critic.parameters(), gradient(critic, real, fakes), strict=True):
            parameter.grad = slope
        optimiser.step()
        project(critic, NetworkPlan())

    return step


def _non_private(critic: Critic, real: Tensor, fakes: Tensor) -> list[Tensor]:
    loss = critic(fakes).mean() - critic(real).mean()
    return list(torch.autograd.grad(loss, list(critic.parameters())))


def _study(width: int, side: int) -> Study:
    values = {
        "name": "bench",
        "patch": {"size": [side, side], "per_subject": _BAG},
        "prior": {"family": "vessels"},
        "networks": {"critic_width": width, "depth": 4},
        "privacy": {
            "unit": "subject",
            "epsilon": 8,
            "delta": 1e-3,
            "clip_norm": _CLIP,
            "sampling_rate": 1,
        },
        "training": {"rounds": 1, "critic_steps": 1, "critic_per_generator": 1, "patches_per_bag": _BAG},
        "federation": {"quorum": 1, "sites": [{"name": "site", "subjects": _SUBJECTS}]},
    }
    return parse(values, Study, where="bench")


def _willis(study: Study, patches: np.ndarray) -> Gradient:
    index = Index(
        format=FORMAT,
        key="0" * 64,
        spec=study.patch,
        spec_digest=study.patch.digest(),
        n_subjects=_SUBJECTS,
        patches=f"patches-{'0' * 16}.npy",
    )
    chance = Chance.keyed(SecretRandom.from_operating_system())

    def gradient(critic: Critic, real: Tensor, fakes: Tensor) -> list[Tensor]:
        return private_critic_gradient(
            critic,
            fakes,
            store=PatchStore(index, patches),
            study=study,
            declared_subjects=_SUBJECTS,
            noise_multiplier=_NOISE,
            chance=chance,
        )

    return gradient


def _with_fakes(critic: nn.Module, fakes: Tensor, private: list[Tensor]) -> list[Tensor]:
    on_fakes = torch.autograd.grad(critic(fakes).mean(), list(critic.parameters()))
    return [a + b for a, b in zip(private, on_fakes, strict=True)]


def _noisy_mean(samples: list[Tensor], n: int) -> list[Tensor]:
    norms = torch.stack([sample.flatten(1).norm(dim=1) for sample in samples]).norm(dim=0)
    scale = (_CLIP / norms.clamp(min=1e-12)).clamp(max=1.0)
    sums = [torch.einsum("n,n...->...", scale, sample) for sample in samples]
    return [(part + torch.randn_like(part) * _NOISE * _CLIP) / n for part in sums]


def _opacus_hooks(critic: Critic, real: Tensor, fakes: Tensor) -> list[Tensor]:
    hooked = GradSampleModule(copy.deepcopy(critic), loss_reduction="sum")
    (-hooked(real).sum()).backward()
    samples: list[Tensor] = [getattr(parameter, _KEPT_BY_OPACUS) for parameter in hooked.parameters()]
    return _with_fakes(critic, fakes, _noisy_mean(samples, len(real)))


def _opacus_ghost(critic: Critic, real: Tensor, fakes: Tensor) -> list[Tensor]:
    hooked = GradSampleModuleFastGradientClipping(
        copy.deepcopy(critic),
        max_grad_norm=_CLIP,  # pyright: ignore[reportArgumentType]  (Opacus annotates int and takes float)
        use_ghost_clipping=True,
        loss_reduction="sum",
    )
    losses = -hooked(real)
    losses.sum().backward(retain_graph=True)
    scale = hooked.get_clipping_coef().detach()
    hooked.disable_hooks()
    hooked.zero_grad(set_to_none=True)
    (losses * scale).sum().backward()
    sums = [parameter.grad for parameter in hooked.parameters() if parameter.grad is not None]
    private = [(part + torch.randn_like(part) * _NOISE * _CLIP) / len(real) for part in sums]
    return _with_fakes(critic, fakes, private)


def _functorch(critic: Critic, real: Tensor, fakes: Tensor) -> list[Tensor]:
    parameters = {name: value.detach() for name, value in critic.named_parameters()}

    def loss(weights: dict[str, Tensor], patch: Tensor) -> Tensor:
        return -torch.func.functional_call(critic, weights, (patch[None],))[0]

    samples = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, real)
    return _with_fakes(critic, fakes, _noisy_mean(list(samples.values()), len(real)))


def _ways(willis: Gradient) -> dict[str, tuple[str, Gradient]]:
    return {
        "non-private": ("-", _non_private),
        "Willis": ("subject", willis),
        "Opacus hooks": ("patch", _opacus_hooks),
        "Opacus ghost clipping": ("patch", _opacus_ghost),
        "functorch per patch": ("patch", _functorch),
    }
