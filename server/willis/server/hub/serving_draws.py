"""Pairs drawn for collectors: one queue before one worker, few samplers in memory, each block drawn once.

Everybody who draws waits in the order of asking, one message at a time, so memory holds for each stream one
message and the block that the message ended in, whatever the stream asks for in all.
"""

from collections import OrderedDict
from concurrent.futures import CancelledError, ThreadPoolExecutor
from math import prod

import torch
from jaxtyping import Float32, Int8
from numpy import ndarray

from willis.server.hub.serving_releases import ServedRelease
from willis.shared.drawn_blocks import DrawnBlocks
from willis.shared.patch import LabelledPatches
from willis.shared.recipes.contract import Sampler
from willis.shared.recipes.network_sampler import drawn_at_once

_SAMPLERS = 2
Images = Float32[ndarray, "pair channel *space"]
Labels = Int8[ndarray, "pair *space"]


class RoomClosed(Exception):
    """Nothing is drawn any more: the hub is stopping."""


class DrawingRoom:
    """Draws, one message after the other; a context manager that ends the worker.

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

    def begin(self, release: ServedRelease, *, end: int, seed: int) -> "DrawnStream":
        """Return a stream of the pairs before number ``end`` of a seed; nothing is drawn yet."""
        return DrawnStream(self, release, end=end, seed=seed)

    def kept(self) -> list[str]:
        """Return digests of the releases whose samplers are in memory, the one used last at the end."""
        return list(self._kept)

    def wait_for(self, stream: "DrawnStream", *, first: int, n: int) -> tuple[Images, Labels]:
        """Return what a stream draws when its turn has come.

        Raises:
            ReleaseError: The release was changed meanwhile.
            RoomClosed: The hub is stopping.
        """
        try:
            message = self._worker.submit(stream.drawn, first=first, n=n)
        except RuntimeError as fault:  # the worker takes nothing more
            raise RoomClosed from fault
        try:
            return message.result()
        except CancelledError as fault:
            raise RoomClosed from fault

    def sampler(self, release: ServedRelease) -> Sampler:
        """Return a release's sampler; for the worker alone.

        Raises:
            ReleaseError: The release was changed meanwhile.
        """
        if release.digest not in self._kept:
            while len(self._kept) >= self._most:
                self._kept.popitem(last=False)
            self._kept[release.digest] = release.read().sampler()
        self._kept.move_to_end(release.digest)
        return self._kept[release.digest]


class DrawnStream:
    """The pairs of one stream, taken in order; each block is drawn once, however small the messages are.

    Args:
        room: Where it is drawn.
        release: From what.
        end: Number of the pair after the last one.
        seed: Of the series.
    """

    def __init__(self, room: DrawingRoom, release: ServedRelease, *, end: int, seed: int) -> None:
        self._room, self._release, self._end, self._seed = room, release, end, seed
        self._blocks: DrawnBlocks | None = None

    def take(self, *, first: int, n: int) -> tuple[Images, Labels]:
        """Return n images (-1 to 1) and labels (0 or 1), from pair ``first`` on.

        Raises:
            ReleaseError: The release was changed meanwhile.
            RoomClosed: The hub is stopping.
        """
        return self._room.wait_for(self, first=first, n=n)

    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        """Draw with whichever sampler the room holds then: a stream keeps none of its own in memory."""
        return self._room.sampler(self._release).draw(first=first, n=n, seed=seed)

    def drawn(self, *, first: int, n: int) -> tuple[Images, Labels]:
        """Draw what is not there yet, and return it; for the worker alone."""
        if self._blocks is None:
            block = drawn_at_once(self._room.sampler(self._release))
            channels, *size = self._release.image_shape
            memory = block * (channels + 1) * prod(size) * 4 if block > 1 else 0  # one block, float32
            self._blocks = DrawnBlocks(self, n=self._end, seed=self._seed, block=block, memory=memory)
        patches = torch.stack(self._blocks.patches(range(first, first + n)))
        return patches[:, :-1].contiguous().numpy(), (patches[:, -1] > 0).to(torch.int8).numpy()
