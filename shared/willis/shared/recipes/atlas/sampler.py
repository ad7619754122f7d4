"""Draws from an atlas: a bin, a warp of its template, a residual of the known power, a scanner's whims."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from willis.shared.networks.build import public_generator
from willis.shared.patch import LabelledPatches
from willis.shared.prior.draw import draw_patches
from willis.shared.recipes.atlas.frame import displacement, warp_std, warped
from willis.shared.recipes.atlas.layout import (
    USUAL_POWER,
    Layout,
    radial_bands,
    sharpened,
    templates_of,
)
from willis.shared.study import Study
from willis.shared.update import Arrays

# What every scanner and patient varies, whatever the atlas: public domain randomisation.
_BLURRED, _BLUR = 0.1, (0.2, 0.7)  # share of draws, and pixels
_LEFT = (0.2, 0.7)  # of the residual: what it holds of anatomy no Gaussian field draws, and hides the organ
_SHARPER = 0.3  # log standard deviation of the grey across the border
_GAIN, _OFFSET, _GAMMA = (
    0.2,
    0.15,
    0.2,
)  # log standard deviation, standard deviation, and that of the exponent


@dataclass(frozen=True)
class AtlasSampler:
    """Draws patches of one study.

    Attributes:
        arrays: The atlas.
        layout: Its layout.
        study: Whose prior a share ``broad`` of the draws comes from.
    """

    arrays: Arrays
    layout: Layout
    study: Study

    @torch.no_grad()
    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        """Return patches ``first`` to ``first + n - 1`` of a seed, image in [-1, 1] and label -1 or 1."""
        if not (n >= 0 and first >= 0):
            raise ValueError(f"first and n must not be negative, got {first} and {n}")
        templates = templates_of(self.arrays, self.layout)
        patches = torch.empty(n, 2, *self.layout.image.size)
        for at in range(n):
            dice = np.random.default_rng(public_generator(seed, "atlas", first + at).initial_seed())
            broad = dice.uniform() < float(self.arrays["broad"][0])
            patches[at] = self._prior(dice) if broad else self._one(templates, dice)
        return patches

    def _prior(self, dice: np.random.Generator) -> Float[Tensor, "2 row col"]:
        prior = self.study.prior
        size = self.layout.image.size
        return draw_patches(prior.family, n=1, size=size, generator=dice, ranges=prior.ranges)[0]

    def _one(self, templates: Tensor, dice: np.random.Generator) -> Float[Tensor, "2 row col"]:
        share = np.asarray(self.arrays["share"], np.float64).clip(0)
        at = int(dice.choice(len(share), p=share / share.sum()))
        drawn = warped(templates[at][None], displacement(self._move(dice), self.layout.warp))
        added = np.exp(_SHARPER * dice.standard_normal()) * np.asarray(self.arrays["added"])
        image, border = sharpened(drawn, {"added": added})[0]
        image = image.numpy() + self._residual(dice)
        if dice.uniform() < _BLURRED:
            image = gaussian_filter(image, dice.uniform(*_BLUR))
        label = torch.where(border > 0, 1.0, -1.0)
        return torch.stack([torch.from_numpy(_grey_scale(image, dice).astype(np.float32)), label])

    def _move(self, dice: np.random.Generator) -> Float[Tensor, "1 coefficient"]:
        bands = self.layout.warp_bands()
        spread = torch.from_numpy(np.array(self.arrays["warp_spread"], np.float32))[bands].clamp(min=0).sqrt()
        normal = torch.from_numpy(dice.standard_normal((1, len(bands)), dtype=np.float32))
        return normal * spread * warp_std(self.layout.warp)

    def _residual(self, dice: np.random.Generator) -> Float[ndarray, "row col"]:
        size = self.layout.image.size
        bands = radial_bands(size)
        power = USUAL_POWER * np.asarray(self.arrays["power"], np.float64).clip(0)
        amplitude = np.sqrt(power / np.bincount(bands.ravel()) * bands.size)[bands]
        field = np.fft.ifft2(np.fft.fft2(dice.standard_normal(size)) * amplitude).real
        return dice.uniform(*_LEFT) * field


def _grey_scale(image: Float[ndarray, "row col"], dice: np.random.Generator) -> Float[ndarray, "row col"]:
    """Return an image under another gain, offset and gamma, within [-1, 1]."""
    image = image * np.exp(_GAIN * dice.standard_normal()) + _OFFSET * dice.standard_normal()
    return 2 * ((image.clip(-1, 1) + 1) / 2) ** np.exp(_GAMMA * dice.standard_normal()) - 1
