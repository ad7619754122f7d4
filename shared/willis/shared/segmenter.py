"""The U-net that judges patches by their use: trained on labelled patches, it segments whole images.

MONAI's ``BasicUNet`` (Falk 2019): two convolutions a level, instance norm, leaky ReLU, four halvings; full
resolution at its first level, since the vessels of a patch may be one pixel wide.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from monai.networks.nets.basic_unet import BasicUNet
from torch import Tensor, nn
from torch.nn import functional

from willis.shared.patch import LabelledPatches, PatchSpec, check_patches
from willis.shared.study import UsePlan

Progress = Callable[[int, int], None]  # steps done, steps in all

LEARNING_RATE = 3e-3  # 1e-3 is far from done after the few hundred steps a study has
SMALLEST_SIDE = 32  # four halvings leave two pixels, and instance norm needs more than one
WINDOWS_AT_ONCE = 32


@dataclass(frozen=True)
class Segmenter:
    """A trained U-net and the patches it knows.

    Attributes:
        network: From (patch, image channel, *space) to (patch, 1, *space), foreground as a logit.
        spec: Size, axis and inversion of the patches it was trained on.
        device: Where the network is.
    """

    network: nn.Module
    spec: PatchSpec
    device: torch.device

    def predict(self, image: Float[Tensor, " channel *space"]) -> Bool[Tensor, "*space"]:
        """Return the foreground of a whole image: where :meth:`probability` is at least one half."""
        return self.probability(image) >= 0.5

    @torch.no_grad()
    def probability(
        self, image: Float[Tensor, " channel *space"], *, overlap: float = 0.5
    ) -> Float[Tensor, "*space"]:
        """Return the chance of foreground at every pixel of a whole image.

        Windows of the patch's size slide over the image and are blended with Gaussian weights. An image
        smaller than a patch lies in its middle, padded with empty background (-1; 1 under ``spec.invert``),
        and is cropped back. A 2-D network sees a volume slice by slice, perpendicular to ``spec.axis``.

        Args:
            image: Normalised as the patches were, in [-1, 1]; a plane or a volume.
            overlap: Share of a window that its neighbour covers, in [0, 1).

        Raises:
            ValueError: Channels or axes do not fit, a value is not finite, or overlap is out of bounds.
        """
        self._check(image, overlap)
        if image.ndim == self.spec.dimensions + 1:
            return self._stitched(image[None], overlap)[0]
        axis = ("sagittal", "coronal", "axial").index(self.spec.axis)
        slices = image.movedim(axis + 1, 0)
        return self._stitched(slices, overlap).movedim(0, axis)

    def _stitched(self, images: Tensor, overlap: float) -> Tensor:
        self.network.eval()
        stitched = sliding_window_inference(
            images,
            self.spec.size,
            WINDOWS_AT_ONCE,
            self._window,
            overlap=overlap,
            mode="gaussian",
            padding_mode="constant",
            cval=1.0 if self.spec.invert else -1.0,
            sw_device=self.device,
            device="cpu",
        )
        assert isinstance(stitched, Tensor)
        return stitched[:, 0]

    def _window(self, windows: Tensor) -> Tensor:
        with fast_precision(self.device):
            logits = self.network(windows)
        return torch.sigmoid(logits.float())

    def _check(self, image: Tensor, overlap: float) -> None:
        n_channels, dimensions = len(self.spec.channels), self.spec.dimensions
        if not (image.ndim - 1 in (dimensions, 3) and len(image) == n_channels):
            raise ValueError(
                f"a {dimensions}-D segmenter of {n_channels} channels cannot take an image of shape "
                f"{tuple(image.shape)}; channels come first"
            )
        if not bool(torch.isfinite(image).all()):
            raise ValueError("the image must be finite, got NaN or infinity; normalise it as patches are")
        if not 0 <= overlap < 1:
            raise ValueError(f"overlap must lie in [0, 1), got {overlap}")


def train_segmenter(
    patches: LabelledPatches,
    spec: PatchSpec,
    *,
    plan: UsePlan,
    generator: torch.Generator,
    device: torch.device,
    progress: Progress | None = None,
    start: Segmenter | None = None,
) -> Segmenter:
    """Train a U-net on labelled patches, for a number of steps fixed beforehand.

    Steps:
        1. Draw a batch with replacement; foreground is where the last channel is above 0.
        2. Flip it at random along every axis where the spec allows it; change gain, offset and noise of its
           image.
        3. Step Adam on Dice plus cross entropy (each batch is one Dice sum, so an empty patch is no outlier).

    Nothing is selected on the way: neither step, nor threshold, nor seed.

    Args:
        patches: Image channels, then the label, in [-1, 1].
        spec: What the patches are.
        plan: Steps, batch and width.
        generator: A CPU generator; of first weights, batches and augmentation.
        device: Where to train. Where a CPU has bfloat16 convolutions they are used (see
            :func:`fast_precision`), else float32.
        progress: Called after every step with steps done and steps in all.
        start: A U-net of the same plan to go on from (fine-tuning), which stays as it is; None starts from
            first weights. Batches and augmentation are the same either way.

    Raises:
        ValueError: The patches are none, do not fit the spec, or are not within [-1, 1]; or ``start`` is
            another U-net.
    """
    check_patches(patches, spec)
    if not len(patches) >= 1:
        raise ValueError("a segmenter needs at least one patch to train on, got 0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**62, (), generator=generator)))
        network = UNet(spec, width=plan.unet_width).to(device)
    if start is not None:
        _take_up(network, start)
    optimiser = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, plan.unet_steps)
    loss_of = DiceCELoss(sigmoid=True, batch=True)
    network.train()
    for step in range(plan.unet_steps):
        picks = torch.randint(len(patches), (plan.unet_batch,), generator=generator)
        image, truth = augment(patches[picks], generator, flips=spec.flips)
        with fast_precision(device):
            logits = network(image.to(device))
        loss = loss_of(logits.float(), truth.to(device))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        decay.step()
        if progress is not None:
            progress(step + 1, plan.unet_steps)
    return Segmenter(network.eval(), spec, device)


def _take_up(network: nn.Module, start: Segmenter) -> None:
    try:
        network.load_state_dict(start.network.state_dict())
    except RuntimeError as fault:
        raise ValueError(
            "start must be a U-net of the same channels, dimensions and use.unet_width as the plan's; train "
            "it with the same plan"
        ) from fault


class UNet(nn.Module):
    """From (patch, image channel, *space) to (patch, 1, *space): foreground as a logit.

    A patch with a side below 32 pixels is padded with its border and cropped back.
    """

    def __init__(self, spec: PatchSpec, *, width: int) -> None:
        super().__init__()
        self.layers = BasicUNet(
            spatial_dims=spec.dimensions,
            in_channels=len(spec.channels),
            out_channels=1,
            features=(width, width, 2 * width, 4 * width, 8 * width, width),
        )

    def forward(self, image: Float[Tensor, "patch channel *space"]) -> Float[Tensor, "patch 1 *space"]:
        """Return a logit for every pixel."""
        sides = image.shape[2:]
        missing = [max(0, SMALLEST_SIDE - side) for side in reversed(sides)]
        if any(missing):
            image = functional.pad(image, [pad for after in missing for pad in (0, after)], mode="replicate")
        return self.layers(image)[(..., *(slice(side) for side in sides))]


def augment(
    patches: LabelledPatches, generator: torch.Generator, *, flips: bool = True
) -> tuple[Float[Tensor, "patch image *space"], Float[Tensor, "patch 1 *space"]]:
    """Return (flipped) images with another gain, offset and noise, and their masks in {0, 1}.

    Each patch draws for itself: a flip along each axis where allowed (chance one half), gain in [0.8, 1.2],
    offset in [-0.2, 0.2], noise of standard deviation in [0, 0.1]; all in units of the image, which stays in
    [-1, 1].
    """
    n = len(patches)
    patches = patches.clone()
    for axis in range(2, patches.ndim) if flips else ():
        flipped = torch.rand(n, generator=generator) < 0.5
        patches[flipped] = patches[flipped].flip(axis)
    image, truth = patches[:, :-1], (patches[:, -1:] > 0).float()
    column = (n,) + (1,) * (image.ndim - 1)
    gain = 0.8 + 0.4 * torch.rand(column, generator=generator)
    offset = 0.4 * torch.rand(column, generator=generator) - 0.2
    std = 0.1 * torch.rand(column, generator=generator)
    noise = std * torch.randn(image.shape, generator=generator)
    return (gain * image + offset + noise).clamp(-1, 1), truth


def fast_precision(device: torch.device) -> AbstractContextManager:
    """Return bfloat16 autocast on a CPU that has such instructions, else nothing (float32).

    On the CPUs where it was tried, training took about half the time, for the same Dice.
    """
    if device.type == "cpu" and torch.cpu._is_avx512_bf16_supported():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()
