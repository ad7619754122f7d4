"""Pairs drawn for collectors: one queue before one worker, and few samplers in memory.

Everybody who draws waits in the order of asking, one batch at a time, so memory holds one batch for each
stream, whatever they ask for in all.
"""

from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from jaxtyping import Float32, Int8
from numpy import ndarray

from willis.server.hub.serving_releases import ServedRelease
from willis.shared.recipes.contract import Sampler

_SAMPLERS = 2
Images = Float32[ndarray, "pair channel *space"]
Labels = Int8[ndarray, "pair *space"]


class DrawingRoom:
    """Draws, one batch after the other; a context manager that ends the worker.

    Args:
        samplers: Kept in memory at once; the one that was used longest ago makes room.
    """

    def __init__(self, *, samplers: int = _SAMPLERS) -> None:
        self._most = samplers
        self._kept: OrderedDict[str, Sampler] = OrderedDict()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="draws")

    def __enter__(self) -> "DrawingRoom":
        """Return the room."""
        return self

    def __exit__(self, *_: object) -> None:
        """Draw nothing more; who waits still gets an error."""
        self._worker.shutdown(wait=True, cancel_futures=True)

    def draw(self, release: ServedRelease, *, first: int, n: int, seed: int) -> tuple[Images, Labels]:
        """Return n images (-1 to 1) and labels (0 or 1), from pair ``first`` on.

        Raises:
            ReleaseError: The release was changed meanwhile.
            RuntimeError: The room is closed.
        """
        return self._worker.submit(self._drawn, release, first, n, seed).result()

    def kept(self) -> list[str]:
        """Return digests of the releases whose samplers are in memory, the one used last at the end."""
        return list(self._kept)

    def _drawn(self, release: ServedRelease, first: int, n: int, seed: int) -> tuple[Images, Labels]:
        patches = self._sampler(release).draw(first=first, n=n, seed=seed).detach().cpu().numpy()
        return np.ascontiguousarray(patches[:, :-1], np.float32), (patches[:, -1] > 0).astype(np.int8)

    def _sampler(self, release: ServedRelease) -> Sampler:
        if release.digest not in self._kept:
            while len(self._kept) >= self._most:
                self._kept.popitem(last=False)
            self._kept[release.digest] = release.read().sampler()
        self._kept.move_to_end(release.digest)
        return self._kept[release.digest]
