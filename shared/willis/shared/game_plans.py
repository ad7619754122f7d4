"""Keys of the recipes that are games of networks: the GANs of Kossen 2021, the translators of Platscher 2021.

All of them need protocol ``pooled``; ``[networks]`` has latent, widths and depth, ``[training]`` optimiser,
rates, batch sizes (``fakes``) and how many rounds come before a generator's step (``critic_per_generator``).
"""

from typing import Literal

from pydantic import Field, model_validator

from willis.shared.settings import Settings


class _GanPlan(Settings):
    """Keys of the generators of image and label together.

    Attributes:
        kernel: Side of the convolutions' kernels, in pixels.
        label_threshold: A drawn label above this counts as foreground; labels lie in (-1, 1).
    """

    kernel: int = Field(default=5, ge=3, le=9)
    label_threshold: float = Field(default=0.0, gt=-1, lt=1)


class DcganPlan(_GanPlan):
    """DCGAN (Radford 2016) with the three helps of Salimans 2016, as in Kossen 2021.

    Attributes:
        name: Which recipe.
        label_smoothing: The critic's target for a real patch is uniform between these, drawn for each patch.
        feature_matching: Weight of the distance between the mean features of real patches (one private
            statistic) and of fakes in the generator's loss; 0 asks no statistic.
        minibatch_kernels: Kernels of minibatch discrimination over the patches of one unit; 0 leaves it out.
    """

    name: Literal["dcgan"]
    label_smoothing: tuple[float, float] = (0.7, 1.2)
    feature_matching: float = Field(default=1.0, ge=0, le=1000)
    minibatch_kernels: int = Field(default=16, ge=0, le=512)

    @model_validator(mode="after")
    def _sane(self) -> "DcganPlan":
        low, high = self.label_smoothing
        if not 0 < low <= high <= 2:
            raise ValueError(f"label_smoothing must rise within (0, 2], got {self.label_smoothing}")
        return self


class WganGpPlan(_GanPlan):
    """Wasserstein GAN with gradient penalty (Gulrajani 2017), as in Kossen 2021.

    Attributes:
        name: Which recipe.
        penalty: Weight of the gradient penalty, between a unit's patches and fakes.
        normalisation: In the critic: ``instance``, or ``spectral`` (the SN variant: each layer's spectral
            norm is projected to at most ``networks.spectral_bound`` after every step).
    """

    name: Literal["wgan-gp"]
    penalty: float = Field(default=10.0, ge=0, le=1000)
    normalisation: Literal["instance", "spectral"] = "instance"


class EditPlan(Settings):
    """How a label is changed before an image is made for it (Shin 2018); each draw by dice of its own.

    Attributes:
        moved: Farthest shift along each axis, as a share of the patch's side.
        scaled: Smallest and largest factor of its size.
        mirrored: Whether it may be mirrored along each axis.
    """

    moved: float = Field(default=0.0, ge=0, le=0.5)
    scaled: tuple[float, float] = (1.0, 1.0)
    mirrored: bool = False

    @model_validator(mode="after")
    def _sane(self) -> "EditPlan":
        low, high = self.scaled
        if not 0.1 <= low <= high <= 10:
            raise ValueError(f"scaled must rise within 0.1 to 10, got {self.scaled}")
        return self


class _TranslationPlan(Settings):
    """Keys of the translators, from a semantic map to an image, and of what draws maps.

    A map has two channels: the label, and the tissue in a few levels: the image's first channel, blurred and
    rounded to equal steps of its range. Both are computed where the image is.

    Attributes:
        levels: Tissue levels in a map; 1 leaves tissue out, and the map is the label alone.
        blur: Of the image before its levels are taken: standard deviation in pixels.
        maps: Where drawing takes its maps from: ``gan``, a generator of maps trained in the same rounds
            (WGAN-GP, Platscher 2021), or ``prior``, maps of the study's prior.
        map_penalty: Weight of the gradient penalty of the critic of maps.
        edit: How a drawn map's label is changed before it is translated.
    """

    levels: int = Field(default=4, ge=1, le=16)
    blur: float = Field(default=1.5, ge=0, le=16)
    maps: Literal["gan", "prior"] = "gan"
    map_penalty: float = Field(default=10.0, ge=0, le=1000)
    edit: EditPlan = EditPlan()


class _PairedPlan(_TranslationPlan):
    """Keys of the translators that learn from an image beside its own map.

    Attributes:
        l1: Weight of the mean absolute difference between the translated and the real image.
    """

    l1: float = Field(default=10.0, ge=0, le=1000)


class Pix2PixPlan(_PairedPlan):
    """A U-net and a PatchGAN critic (Isola 2017), as in Shin 2018 and Platscher 2021.

    Attributes:
        name: Which recipe.
    """

    name: Literal["pix2pix"]


class SpadePlan(_PairedPlan):
    """A generator that the map modulates at every level (Park 2019), as in Platscher 2021.

    Attributes:
        name: Which recipe.
    """

    name: Literal["spade"]


class CycleganPlan(_TranslationPlan):
    """Two translators that undo each other (Zhu 2017); images are not compared with their own maps.

    Attributes:
        name: Which recipe.
        cycle: Weight of the mean absolute difference after both translators.
        agreement: Weight of the mean absolute difference between a map's levels and those of the image made
            for it, outside the label. A cycle is as well closed by translators that turn bright into dark
            and back; 0 leaves that open, as published.
    """

    name: Literal["cyclegan"]
    cycle: float = Field(default=10.0, ge=0, le=1000)
    agreement: float = Field(default=10.0, ge=0, le=1000)
