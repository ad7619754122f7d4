"""Arrays of several owners in one mapping: ``owner/name``."""

from collections.abc import Mapping

import numpy as np

from willis.shared.update import Arrays


def part(state: Arrays, owner: str) -> dict[str, np.ndarray]:
    """Return the arrays under ``owner/``, by the rest of their names."""
    start = owner + "/"
    return {name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}


def owned(owner: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return arrays under ``owner/``."""
    return {f"{owner}/{name}": value for name, value in arrays.items()}
