"""Adam and RMSprop on one flat vector, so that their state is a few arrays that a checkpoint can hold."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from willis.shared.study import TrainingPlan

_TINY = 1e-8  # added to the root, as in torch
_RMSPROP_PAST = 0.99  # as in torch

Flat = Float[Tensor, " coordinate"]


@dataclass(frozen=True, eq=False)
class Moments:
    """What an optimiser remembers.

    Attributes:
        first: Decayed mean of gradients; stays zero under RMSprop.
        second: Decayed mean of their squares.
        count: Steps taken.
    """

    first: Flat
    second: Flat
    count: int

    @classmethod
    def none(cls, length: int) -> Self:
        """Return those of an optimiser that took no step."""
        return cls(torch.zeros(length), torch.zeros(length), 0)

    @classmethod
    def read(cls, arrays: Mapping[str, np.ndarray], *, length: int) -> Self:
        """Read what :meth:`arrays` returned.

        Raises:
            ValueError: The arrays are not the moments of ``length`` coordinates.
        """
        wanted = {"first": (length,), "second": (length,), "count": (1,)}
        found = {name: value.shape for name, value in arrays.items()}
        if found != wanted:
            raise ValueError(f"an optimiser's moments must have shapes {wanted}, got {found}")
        first, second = (torch.from_numpy(arrays[name].astype(np.float32)) for name in ("first", "second"))
        return cls(first, second, int(arrays["count"].item()))

    def arrays(self) -> dict[str, np.ndarray]:
        """Return float32 arrays by name; the count is exact up to 2 ** 24."""
        return {
            "first": self.first.numpy().copy(),
            "second": self.second.numpy().copy(),
            "count": np.array([self.count], dtype=np.float32),
        }


def descent(gradient: Flat, moments: Moments, *, plan: TrainingPlan, rate: float) -> tuple[Flat, Moments]:
    """Return what a step adds to the weights, and the moments after it.

    Adam (Kingma 2015, algorithm 1) with the plan's betas, or RMSprop (Hinton 2012); both as torch has them.

    Args:
        gradient: Of the loss to be made small.
        moments: Before the step.
        plan: Its ``optimiser`` and ``betas``.
        rate: Learning rate.
    """
    count = moments.count + 1
    if plan.optimiser == "rmsprop":
        second = _RMSPROP_PAST * moments.second + (1 - _RMSPROP_PAST) * gradient**2
        return -rate * gradient / (second.sqrt() + _TINY), Moments(moments.first, second, count)
    past, past_squares = plan.betas
    first = past * moments.first + (1 - past) * gradient
    second = past_squares * moments.second + (1 - past_squares) * gradient**2
    root = (second / (1 - past_squares**count)).sqrt() + _TINY
    return -rate * first / (1 - past**count) / root, Moments(first, second, count)
