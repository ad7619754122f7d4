"""From anatomy to stored values: point spread, bias field, Rician noise, gain; and the normalisation."""

from collections.abc import Mapping

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from scipy import ndimage

from willis.shared.prior.tissue import grid_of

Field = Float[ndarray, "*space"]


def scan(anatomy: Field, values: Mapping[str, float], generator: np.random.Generator) -> Field:
    """Return what a scanner stores of an anatomy given in relative intensities.

    1. Negative intensities, which no scanner has, become 0. 2. The tone curve. 3. The point spread blurs.
    4. The bias field multiplies. 5. Noise in two channels makes the magnitude Rician (Gudbjartsson and Patz
    1995). 6. A coarser grid is sampled and interpolated back. 7. Gain.

    Returns:
        float32, finite, never negative; parameters are those of ``parameters.SCANNER``.
    """
    image = np.maximum(anatomy, 0)
    if values["gamma"] != 1:
        image = image ** np.float32(values["gamma"])
    if values["blur"] > 0:
        image = ndimage.gaussian_filter(image, values["blur"], mode="nearest", truncate=3)
    if values["bias_field"] > 0:
        image = image * np.exp(values["bias_field"] * _slow(image.shape, generator))
    if values["noise"] > 0:
        image = _rician(image, values, generator)
    if values["coarse"] > 1:
        image = _resampled(image, values["coarse"])
    return (values["gain"] * image).astype(np.float32)


def _slow(size: tuple[int, ...], generator: np.random.Generator) -> Field:
    """Draw a slow field within [-1, 1]: one wave along each axis, of at most a period over the image."""
    waves = np.zeros((), np.float32)
    for axis, side in zip(grid_of(size), size, strict=True):
        period, phase = generator.uniform(0.3, 1), generator.uniform(0, 2 * np.pi)
        waves = waves + np.cos(2 * np.pi * period * axis / side + np.float32(phase), dtype=np.float32)
    return waves / len(size)


def _rician(image: Field, values: Mapping[str, float], generator: np.random.Generator) -> Field:
    noise = generator.standard_normal((2, *image.shape), dtype=np.float32)
    if values["grain"] > 0:
        grain = (0, *[values["grain"]] * image.ndim)
        noise = ndimage.gaussian_filter(noise, grain, mode="wrap", truncate=3)
        noise /= noise.std()
    real, imaginary = values["noise"] * noise
    return np.hypot(image + real, imaginary)


def _resampled(image: Field, coarse: float) -> Field:
    """Return the image as a grid with pixels ``coarse`` times as large would hold it, interpolated back."""
    small = tuple(max(2, round(side / coarse)) for side in image.shape)
    for sides in (small, image.shape):
        factors = np.divide(sides, image.shape)
        zoomed = ndimage.zoom(image, factors.tolist(), order=1, mode="nearest", grid_mode=True)
        image = np.asarray(zoomed, np.float32)
    return image


def normalise(
    image: Field,
    *,
    percentiles: tuple[float, float] = (0.5, 99.5),
    margin_low: float = 0.0,
    margin_high: float = 0.0,
) -> Field:
    """Bring an image to [-1, 1] as its subject's normalisation would.

    Values at the percentiles become -1 and 1; what lies beyond is clipped. A patch rarely holds its
    subject's darkest and brightest: the margins widen the span by that share of itself, below and above.
    An image that is constant between its percentiles becomes 0.
    """
    low, high = np.percentile(image, percentiles)
    span = high - low
    if not span > 1e-6 * max(abs(high), 1e-6):
        return np.zeros_like(image, dtype=np.float32)
    low, high = low - margin_low * span, high + margin_high * span
    return np.clip(2 * (image - low) / (high - low) - 1, -1, 1).astype(np.float32)
