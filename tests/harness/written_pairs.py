"""Patches to write into files, and a disk that is too small for them."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from willis.shared.patch import LabelledPatches, PatchSpec

ABOUT = {"privacy": "epsilon 2.50 at delta 0.0001, unit subject", "release": "f" * 64}
FLAT = PatchSpec(size=(8, 12), spacing_mm=(0.5, 0.25))
SOLID = PatchSpec(size=(8, 9, 10), spacing_mm=(0.5, 0.25, 2.0))


def patches_of(n: int, spec: PatchSpec) -> LabelledPatches:
    dice = torch.Generator().manual_seed(5)
    patches = 2 * torch.rand((n, spec.n_channels, *spec.size), generator=dice) - 1
    patches[:, -1] = torch.where(patches[:, -1] > 0.5, 1.0, -1.0)
    return patches


@contextmanager
def small_disk(most: int) -> Iterator[None]:
    """No file may grow beyond ``most`` bytes: the kernel's own error, in the middle of a write."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
