"""Who takes part in a step: Poisson over units, fresh at every draw."""

import numpy as np

from willis.client.randomness import SecretRandom


def draw_units(n_units: int, sampling_rate: float, chance: SecretRandom) -> list[int]:
    """Return the units of one draw; each takes part with probability ``sampling_rate``, on its own.

    Nobody may foresee the draw (the amplification by sampling rests on that), so the dice are keyed by
    the operating system.

    Edge cases:
        The draw may be empty. At rate 1 everybody takes part.
    """
    if not 0 < sampling_rate <= 1:
        raise ValueError(f"sampling_rate must lie in (0, 1], got {sampling_rate}")
    return np.flatnonzero(chance.uniform(n_units) < sampling_rate).tolist()
