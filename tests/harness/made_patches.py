"""Loaded scans of given values, a plain patch specification, and dice."""

import numpy as np

from willis.client.patches import LoadedScan
from willis.shared.patch import PatchSpec


def dice(seed: int | list[int] = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def loaded(image, label, slice_axis=None) -> LoadedScan:
    image = None if image is None else np.asarray(image, np.float32)[None]
    label = np.asarray(label, np.uint8)
    return LoadedScan(image, label, (1.0,) * label.ndim, np.eye(4), slice_axis)


def flat(**changes) -> PatchSpec:
    return PatchSpec(**{"size": (8, 8), "per_subject": 6, "percentiles": (0, 100)} | changes)
