"""A cloud of parameter vectors as a release, and what draws the prior around them.

Arrays: ``vectors`` (vector, parameter), each one choice of all the prior's parameters; ``fixed``, 1 for a
parameter that is taken from a vector and 0 for one that keeps its range in the study; ``jitter``, the
standard deviation of what is added to a vector's parameters when a patch is drawn.
"""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy import ndarray

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.cloud.parameters import ParameterSpace, public_dice, systematic
from willis.shared.update import Arrays

_BANDWIDTH = 0.3  # of the jitter, in standard deviations of the cloud


def cloud(
    space: ParameterSpace,
    vectors: Float[ndarray, "n parameter"],
    weights: Float[ndarray, " n"],
    *,
    known: Bool[ndarray, " parameter"],
    size: int,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Return a cloud's arrays from weighted vectors.

    Args:
        space: The parameters.
        vectors: Choices of them.
        weights: Of each, not negative, not all 0.
        known: Parameters that become fixed.
        size: Vectors of the cloud.
        generator: Which vectors come into it.
    """
    left, _ = space.narrowing(vectors, weights)
    spread = left * (space.high - space.low) / np.sqrt(12)
    return {
        "vectors": vectors[systematic(weights, size, generator)].astype(np.float32),
        "fixed": known.astype(np.float32),
        "jitter": (_BANDWIDTH * spread).astype(np.float32),
    }


def untouched(space: ParameterSpace, *, size: int, generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Return the cloud of which nothing is known: it draws the prior itself."""
    nothing = np.zeros(len(space.names), np.float32)
    return {
        "vectors": space.draw(size, generator).astype(np.float32),
        "fixed": nothing,
        "jitter": nothing.copy(),
    }


class CloudSampler:
    """Draws the prior around a cloud's vectors, and a share of patches from the untouched prior.

    Args:
        space: The parameters and their box.
        arrays: A cloud's.
        broad: Share of untouched draws.

    Raises:
        ValueError: The arrays are not a cloud over these parameters.
    """

    def __init__(self, space: ParameterSpace, arrays: Arrays, *, broad: float) -> None:
        _check(space, arrays)
        self._space, self._broad = space, broad
        self._vectors = arrays["vectors"].astype(np.float64)
        self._jitter = arrays["jitter"].astype(np.float64)
        self.fixed: Bool[ndarray, " parameter"] = arrays["fixed"] > 0.5

    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        """Return patches ``first`` to ``first + n - 1`` of a seed."""
        drawn = [self._draw(public_dice(seed, "cloud", number)) for number in range(first, first + n)]
        return torch.cat(drawn) if drawn else torch.empty((0, 2, *self._space.size))

    def _draw(self, generator: np.random.Generator) -> LabelledPatches:
        broad = generator.uniform() < self._broad
        vector = self._vectors[generator.integers(len(self._vectors))]
        vector = vector + self._jitter * generator.standard_normal(len(self._jitter))
        return self._space.patch(vector, self.fixed & (not broad), generator)


def _check(space: ParameterSpace, arrays: Arrays) -> None:
    parameters = len(space.names)
    faults = [f"{name}: unknown" for name in sorted(set(arrays) - {"vectors", "fixed", "jitter"})]
    for name, axes in (("vectors", 2), ("fixed", 1), ("jitter", 1)):
        if name not in arrays:
            faults.append(f"{name}: missing")
        elif not (
            arrays[name].ndim == axes and arrays[name].shape[-1] == parameters and len(arrays[name]) >= 1
        ):
            faults.append(f"{name}: {arrays[name].shape}, wanted {axes} axes, the last of {parameters}")
        elif not bool(np.isfinite(arrays[name]).all()):
            faults.append(f"{name}: holds numbers that are not finite")
    if faults:
        raise ValueError("; ".join(faults))
