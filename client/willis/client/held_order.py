"""The arrays of the last order that a site answered, so that those that stand still need not travel again."""

from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from willis.shared.update import Arrays
from willis.shared.whole_file import make_folder, write_whole

_FILE = "order.safetensors"


def held_arrays(run: Path) -> dict[str, np.ndarray]:
    """Return what a site holds of a run's last order; nothing where there is none, or it is damaged.

    A damaged file is as good as none: every array is checked against its digest, and what lacks is sent
    again.
    """
    try:
        return load((run / _FILE).read_bytes())
    except (FileNotFoundError, SafetensorError):
        return {}


def hold(run: Path, arrays: Arrays) -> None:
    """Keep an order's arrays in place of those before.

    Raises:
        StateError: The disk is full or not writable.
    """
    make_folder(run, mode=0o700)
    whole = {name: np.ascontiguousarray(value).reshape(np.shape(value)) for name, value in arrays.items()}
    write_whole(run / _FILE, save(whole), private=True)
