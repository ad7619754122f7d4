"""Whole volumes from a release of 3-D patches: label and noise drawn once, the image by overlapping patches.

A network that makes an image for a label may see a volume through windows of the size it was trained on. The
prior draws label and anatomy for the whole volume, so they go on across windows by construction; the windows
overlap, and where several show a voxel its value is their mean, weighed by a Gaussian about each window's
middle (MONAI's sliding window inference, as nnU-Net does; Isensee 2021).

The networks normalise what a window shows by itself, so that neighbours differ in brightness: the blend turns
the step into a slow change. It needs weights that vanish at a window's border. MONAI's own Gaussian ends at a
thousandth of its height, which where corners of windows meet is a twentieth of the weight: gradients are then
steeper across borders of windows than beside them. With the Gaussian as it is they are not: see the page on
pairs, "Seams".

The networks pad with zeros, which shows at the border of a patch. So they are shown the volume with a margin,
its own voxels mirrored, which is cut off again.
"""

from collections.abc import Callable, Iterator
from math import prod
from pathlib import Path
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from willis.shared.export.contrast import Suffix
from willis.shared.networks.build import choose_device, public_generator
from willis.shared.patch import LabelledPatches, PatchSpec
from willis.shared.prior.enlarged import enlarged_ranges
from willis.shared.recipes.network_sampler import block_of
from willis.shared.recipes.volume_source import LABEL, VolumeSource
from willis.shared.recipes.volumes import check_can, volume_source
from willis.shared.release import GeneratorRelease
from willis.shared.study import Study
from willis.shared.synthesis import check_draw, write_pairs

LONGEST_SIDE = 512
MOST_VOXELS = 2**24  # bounds time, and memory: the prior takes some 100 bytes a voxel (1.7 GB)
OVERLAP = 0.5
LEAST_OVERLAP, MOST_OVERLAP = 0.25, 0.875
_MARGIN = 4  # a quarter of the patch's side is added at each end of an axis
_WIDTH = 0.125  # standard deviation of a window's weights, as a share of its side


def draw_volumes(
    release: GeneratorRelease,
    *,
    n: int,
    seed: int,
    size: tuple[int, int, int],
    overlap: float = OVERLAP,
    device: str = "auto",
) -> LabelledPatches:
    """Draw n whole volumes.

    Guarantees:
        Volume i depends on the release, the seed, the size, the overlap and i alone; its label on neither
        the overlap nor the network. Of the patch's size it has the label of pair i of
        :func:`~willis.shared.synthesis.draw_pairs`. Another kind of device, or another version of torch,
        may differ in rounding.

    Args:
        n: 1 to 10 000 000; they are held in memory, see :func:`stream_volumes`.
        seed: At least 0.
        size: Voxels along each axis: at least the patch's side, at most 512, and 16 777 216 in all.
        overlap: Share of a window that its neighbour sees too, along each axis: 0.25 to 0.875.
        device: ``auto``, ``cpu`` or ``cuda``; the network computes there, the volume stays on the CPU.

    Returns:
        float32 (n, channel, *size) on the CPU: image channels in [-1, 1], the label exactly -1 or 1.

    Raises:
        ReleaseError: The release is of a 2-D study, or of a recipe that makes patches only.
        ValueError: A number is out of its range.
        Unreachable: CUDA is asked for and there is none.
    """
    stream = stream_volumes(release, n=n, seed=seed, size=size, overlap=overlap, device=device)
    volumes = torch.empty((n, release.study.patch.n_channels, *size))
    for volume, drawn in zip(volumes, stream, strict=True):
        volume.copy_(drawn[0])
    return volumes


def stream_volumes(
    release: GeneratorRelease,
    *,
    n: int,
    seed: int,
    size: tuple[int, int, int],
    overlap: float = OVERLAP,
    device: str = "auto",
) -> Iterator[LabelledPatches]:
    """Yield the volumes of :func:`draw_volumes` one at a time, so that only one is in memory.

    Raises:
        ReleaseError: At once, as :func:`draw_volumes`.
        ValueError: The same.
    """
    check_draw(n=n, seed=seed)
    volume_spec(release.study, size)
    if not LEAST_OVERLAP <= overlap <= MOST_OVERLAP:
        raise ValueError(f"overlap must be {LEAST_OVERLAP} to {MOST_OVERLAP}, got {overlap}")
    source = volume_source(release.study, release.arrays)
    source.network.to(choose_device(device, "device"))
    return (
        _volume(release.study, source, public_generator("synthesis", seed, i), size=size, overlap=overlap)
        for i in range(n)
    )


def export_volumes(
    release: GeneratorRelease,
    folder: Path,
    *,
    n: int,
    seed: int,
    size: tuple[int, int, int],
    form: Literal["nnunet", "bids", "npz", "png"],
    overlap: float = OVERLAP,
    device: str = "auto",
    progress: Callable[[int], None] = lambda done: None,
    bids_suffix: Suffix | None = None,
) -> Path:
    """Draw the volumes of :func:`draw_volumes` into files, as :func:`~willis.shared.synthesis.export_pairs`.

    Args:
        progress: Gets the number of volumes drawn so far.

    Returns:
        The data set's folder (``nnunet``, ``bids``), or the file (``npz``).

    Raises:
        ReleaseError: As :func:`draw_volumes`, and for pictures (``png``), which hold no volumes.
        StateError: The folder is not empty or cannot be written; nothing is left there.
        ValueError: As :func:`draw_volumes`.
    """
    volumes = stream_volumes(release, n=n, seed=seed, size=size, overlap=overlap, device=device)
    words, patch = (" x ".join(str(side) for side in sides) for sides in (size, release.study.patch.size))
    return write_pairs(
        _counted(volumes, progress),
        folder,
        release=release,
        spec=volume_spec(release.study, size),
        n=n,
        form=form,
        told=f"of {words} drawn with seed {seed} by overlapping patches of {patch} (overlap {overlap:.6g})",
        noun="volumes",
        bids_suffix=bids_suffix,
    )


def _counted(
    volumes: Iterator[LabelledPatches], progress: Callable[[int], None]
) -> Iterator[LabelledPatches]:
    for done, volume in enumerate(volumes, start=1):
        yield volume
        progress(done)


def volume_spec(study: Study, size: tuple[int, ...]) -> PatchSpec:
    """Return what a study's patches would be if they were of a volume's size.

    Raises:
        ReleaseError: Its releases draw patches only.
        ValueError: The size is none that :func:`draw_volumes` takes.
    """
    check_can(study)
    patch = study.patch.size
    if len(size) != len(patch) or any(side < least for side, least in zip(size, patch, strict=True)):
        raise ValueError(f"size must be at least the patch's along each axis, {patch}, got {size}")
    if max(size) > LONGEST_SIDE or prod(size) > MOST_VOXELS:
        raise ValueError(
            f"size must be at most {LONGEST_SIDE} along each axis and {MOST_VOXELS} voxels, got {size}, "
            f"{prod(size)} voxels"
        )
    enlarged_ranges(study.prior.family, study.prior.ranges, patch=patch, size=size)
    return study.patch.model_copy(update={"size": tuple(size)})


@torch.no_grad()
def _volume(
    study: Study, source: VolumeSource, die: torch.Generator, *, size: tuple[int, ...], overlap: float
) -> Float[Tensor, "1 channel *space"]:
    from monai.inferers.utils import sliding_window_inference  # takes seconds to import

    shown, patch = source.shown(size, die), study.patch.size
    margins = [side // _MARGIN for side in patch]
    mirrored = functional.pad(
        shown, [margin for margin in reversed(margins) for _ in range(2)], mode="reflect"
    )
    image = sliding_window_inference(
        mirrored,
        patch,
        sw_batch_size=block_of(study),  # rounding depends on it
        predictor=source.image,
        overlap=overlap,
        roi_weight_map=window_weights(patch),
        sw_device=next(source.network.parameters()).device,
        device="cpu",
    )
    assert isinstance(image, Tensor)
    inside = image[(..., *(slice(margin, margin + side) for margin, side in zip(margins, size, strict=True)))]
    return torch.cat([inside.clamp(-1, 1), shown[:, LABEL : LABEL + 1]], dim=1)


def window_weights(size: tuple[int, ...]) -> Float[Tensor, "*space"]:
    """Return the weight of each voxel of a window: a Gaussian about its middle, an eighth of the side wide.

    Guarantees:
        Positive everywhere, even where all axes end: a voxel that one window alone shows keeps its value.
    """
    weights = torch.ones(())
    for side in size:
        away = (torch.arange(side) - (side - 1) / 2) / (_WIDTH * side)
        weights = weights[..., None] * torch.exp(-(away**2) / 2)
    return weights
