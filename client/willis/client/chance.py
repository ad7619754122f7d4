"""The dice of one paid-for reservation."""

from dataclasses import dataclass

import numpy as np

from willis.client.randomness import SecretRandom


@dataclass(frozen=True)
class Chance:
    """The dice of a reservation, each stream on its own; all keyed by the operating system.

    Attributes:
        units: Who takes part.
        bags: Which of a unit's patches, and their flips.
        noise: The Gaussian noise.
    """

    units: SecretRandom
    bags: np.random.Generator
    noise: SecretRandom

    @classmethod
    def keyed(cls, secret: SecretRandom) -> "Chance":
        """Split one key into the three streams."""
        return cls(secret.spawn("units"), secret.spawn("bags").generator(), secret.spawn("noise"))
