"""What a recipe is: public code that asks every subject for one vector, and learns from the noisy mean.

A recipe is a way from private sums to a generator of labelled patches. It never meets a patient: its
question is public code that the hospital runs on one subject's patches at a time; the vectors it gives are
clipped, summed and made noisy at the hospital (``client.private_sum``) before they leave; the coordinator
adds the sites' sums and the recipe learns from their mean. What it learns, and what it draws from that, is
computed from private sums and public things alone, so it costs nothing more.
"""

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from willis.shared.patch import LabelledPatches
from willis.shared.update import Arrays


@dataclass(frozen=True)
class PooledMean:
    """The sites' noisy sums added up and divided by the number of units that were expected in them.

    Attributes:
        mean: Estimate of the mean vector of one unit.
        std: Standard deviation of the noise in each coordinate of it; 0 in tests alone.
        units: Units expected in the draws: sampling rate times what the answering sites declared.
    """

    mean: Float[ndarray, " coordinate"]
    std: float
    units: float


class Question(Protocol):
    """What one round asks of one unit. Public code."""

    @property
    def length(self) -> int:
        """Coordinates of a vector."""
        ...

    def vector(self, patches: LabelledPatches) -> Float[Tensor, " coordinate"]:
        """Return one unit's vector, computed from its patches and from public things only.

        It may be of any length: whoever sums clips it to ``privacy.clip_norm``. A recipe of statistics
        scales its vectors so that the clip seldom bites.
        """
        ...


class Sampler(Protocol):
    """Draws labelled patches from what a recipe learned."""

    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        """Return patches ``first`` to ``first + n - 1`` of a seed: the image in [-1, 1], the label -1 or 1.

        Guarantees:
            Patch i depends on what was learned, the seed and i alone.
        """
        ...


class Recipe(Protocol):
    """A way from private sums to a generator; built for one study."""

    def start(self) -> dict[str, np.ndarray]:
        """Return the coordinator's state before the first round; public, epsilon 0."""
        ...

    def order(self, state: Arrays, *, number: int) -> dict[str, np.ndarray]:
        """Return what the sites need to know to answer round ``number`` (from 1); all of it public."""
        ...

    def question(self, order: Arrays, *, number: int) -> Question:
        """Return what a site asks of each unit in that round.

        Raises:
            StudyError: The order's arrays are not this recipe's.
        """
        ...

    def learn(self, state: Arrays, answer: PooledMean, *, number: int) -> dict[str, np.ndarray]:
        """Return the state after a round."""
        ...

    def released(self, state: Arrays) -> dict[str, np.ndarray]:
        """Return the part of a state that a release holds: float32 arrays by name."""
        ...

    def sampler(self, arrays: Arrays) -> Sampler:
        """Return what draws from a release's arrays.

        Raises:
            ValueError: The arrays are not this recipe's.
        """
        ...
