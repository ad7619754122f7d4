"""What a labelled patch is: size in pixels, spacing in mm, channels, value range."""

from enum import StrEnum
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor

from willis.shared.settings import Settings

# Image channels first, the label last; image values in [-1, 1], label values -1 (background) or 1.
LabelledPatches = Float[Tensor, "patch channel *space"]

Axis = Literal["sagittal", "coronal", "axial"]


class Channel(StrEnum):
    """Which channel of the file becomes the image channel of a patch.

    A picture has colours; a volume with a fourth axis has sequences (T1, FLAIR...) in an order that all of a
    study's files share.
    """

    INTENSITY = "intensity"  # the only channel of a volume or a grey picture
    RED = "red"
    GREEN = "green"
    BLUE = "blue"
    GREY = "grey"  # mean of a colour picture's channels
    FIRST = "first"  # of the sequences on a volume's fourth axis
    SECOND = "second"
    THIRD = "third"
    FOURTH = "fourth"


class PatchSpec(Settings):
    """How patches are cut from a subject's images.

    Attributes:
        size: Pixels along each axis: two numbers for 2-D patches, three for 3-D.
        spacing_mm: Voxel size in mm along each axis that images are resampled to; None keeps the files'.
            For 2-D patches from volumes it is the in-plane spacing; slices are not resampled across.
        axis: For 2-D patches from volumes: slices are taken perpendicular to this direction.
        channels: Image channels, in order. The label channel always follows them.
        invert: Negate the image after normalisation (dark vessels become bright ones).
        flips: Whether a patch is as good mirrored along any axis, in training and for the U-net; false where
            left, up or front mean something.
        per_subject: Patches stored per subject, over all its images.
        foreground_share: Share of them centred on a foreground pixel; the others lie anywhere that
            is not empty background.
        percentiles: Intensities at these percentiles of the subject's own image become -1 and 1.
    """

    size: tuple[int, ...] = Field(min_length=2, max_length=3)
    spacing_mm: tuple[float, ...] | None = None
    axis: Axis = "axial"
    channels: tuple[Channel, ...] = Field(default=(Channel.INTENSITY,), min_length=1)
    invert: bool = False
    flips: bool = True
    per_subject: int = Field(default=64, ge=1)
    foreground_share: float = Field(default=0.5, ge=0, le=1)
    percentiles: tuple[float, float] = (0.5, 99.5)

    @property
    def dimensions(self) -> int:
        """2 or 3."""
        return len(self.size)

    @property
    def n_channels(self) -> int:
        """Image channels and the label."""
        return len(self.channels) + 1

    @model_validator(mode="after")
    def _sane(self) -> "PatchSpec":
        if not all(8 <= side <= 512 for side in self.size):
            raise ValueError(f"size must be 8 to 512 pixels along each axis, got {self.size}")
        if self.spacing_mm is not None:
            if len(self.spacing_mm) != len(self.size):
                raise ValueError(f"spacing_mm needs {len(self.size)} numbers, got {self.spacing_mm}")
            if not all(step > 0 for step in self.spacing_mm):
                raise ValueError(f"spacing_mm must be positive, got {self.spacing_mm}")
        for channel in dict.fromkeys(self.channels):
            if self.channels.count(channel) > 1:
                raise ValueError(f"channels names {channel.value} twice; name every channel once")
        low, high = self.percentiles
        if not 0 <= low < high <= 100:
            raise ValueError(f"percentiles must rise within 0 to 100, got {self.percentiles}")
        return self


def check_patches(patches: Tensor, spec: PatchSpec) -> None:
    """Raise ``ValueError`` unless patches have the spec's shape and lie within [-1, 1]."""
    wanted = (spec.n_channels, *spec.size)
    if tuple(patches.shape[1:]) != wanted:
        raise ValueError(f"patches must have shape (patch, {wanted}), got {tuple(patches.shape)}")
    if not bool(torch.all((patches >= -1) & (patches <= 1))):
        raise ValueError("patches must be finite and lie within [-1, 1]")
