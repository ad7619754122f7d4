"""Pairs of image and label from a hub, batch by batch: a trainer needs neither the weights nor torch."""

import math
from collections.abc import Iterator

import numpy as np
from jaxtyping import Float32, Int8
from numpy import ndarray

from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.description import SheetedRelease, checked, shape_of
from willis.shared.collection.door import HubDoor
from willis.shared.collection.refusal import VERSION
from willis.shared.errors import ReleaseError

MOST_PAIRS = 10_000_000
_MOST = 2**63 - 1

Images = Float32[ndarray, "pair channel *space"]
Labels = Int8[ndarray, "pair *space"]


class RemotePairs:
    """Batches of pairs that a hub draws from a release; iterate over it as often as wanted.

    Guarantees:
        Pair i depends on the release, the seed and i alone, so another ``batch``, a line that was cut or
        another run give the same pairs.

    Edge cases:
        The last batch is smaller where ``batch`` does not divide ``n``.
        Iterated again, it asks the hub for the same pairs again; take another ``first`` for others.

    Args:
        door: Of the hub.
        release: Its name there.
        n: How many pairs, 1 to 10 000 000; the hub's own limit may be lower.
        seed: At least 0.
        first: Number of the first pair, at least 0.
        batch: Pairs in a batch, 1 or more.

    Raises:
        ValueError: A number is out of its range.
        ReleaseError: There is no such release, or it is not signed by the hub's key.
        CollectionRefused: The hub says no.
        Unreachable: The hub does not answer.
    """

    def __init__(
        self, door: HubDoor, release: str, *, n: int, seed: int, first: int = 0, batch: int = 64
    ) -> None:
        _check(n, seed, first=first, batch=batch)
        self._door, self._n, self._seed, self._first, self._batch = door, n, seed, first, batch
        self.described: SheetedRelease = checked(
            door.describe(release), name=release, key=door.kit.release_key
        )

    def __len__(self) -> int:
        """Return the number of batches."""
        return math.ceil(self._n / self._batch)

    def __iter__(self) -> Iterator[tuple[Images, Labels]]:
        """Yield images (-1 to 1) and labels (0 or 1).

        Raises:
            ReleaseError: What came is not what was asked for.
            CollectionRefused: The hub says no.
            Unreachable: The hub does not answer.
        """
        images: list[ndarray] = []
        labels: list[ndarray] = []
        for some_images, some_labels in self._arriving():
            images.append(some_images)
            labels.append(some_labels)
            while (here := sum(map(len, images))) >= self._batch:
                all_images, all_labels = np.concatenate(images), np.concatenate(labels)
                yield all_images[: self._batch], all_labels[: self._batch]
                images = [all_images[self._batch :]] if here > self._batch else []
                labels = [all_labels[self._batch :]] if here > self._batch else []
        if images:
            yield np.concatenate(images), np.concatenate(labels)

    def _arriving(self) -> Iterator[tuple[Images, Labels]]:
        came, shape = 0, self.described.image_shape

        def ask() -> words.DrawRequest:
            return words.DrawRequest(
                version=VERSION,
                release=self.described.name,
                digest=self.described.signed.digest,
                n=self._n - came,
                seed=self._seed,
                first=self._first + came,
                batch=min(self._batch, 2**31 - 1),
            )

        while came < self._n:
            before = came
            for told in self._door.draw(ask):
                if told.HasField("shape") and shape_of(told.shape, self.described.name) != shape:
                    raise ReleaseError(f"release {self.described.name}: the hub draws another shape")
                if told.first != self._first + came or not 1 <= told.n <= self._n - came:
                    raise ReleaseError(f"release {self.described.name}: other pairs came than were asked for")
                pairs = _pairs(told, shape)
                came += told.n
                yield pairs
            if came == before:
                raise ReleaseError(f"release {self.described.name}: {came} of {self._n} pairs came")


def _pairs(told: words.Pairs, shape: tuple[int, ...]) -> tuple[Images, Labels]:
    """Return the arrays of a message.

    Raises:
        ReleaseError: Bytes do not fit the shape, or a value is out of range.
    """
    space = shape[1:]
    if (len(told.images), len(told.labels)) != (4 * told.n * math.prod(shape), told.n * math.prod(space)):
        raise ReleaseError(f"a message of {told.n} pairs of shape {shape} has other bytes; ask the hub")
    images = np.frombuffer(told.images, "<f4").astype(np.float32).reshape(told.n, *shape)
    labels = np.frombuffer(told.labels, np.int8).reshape(told.n, *space).copy()
    if not (bool(np.all(np.abs(images) <= 1)) and bool(np.all((labels == 0) | (labels == 1)))):
        raise ReleaseError("images must lie within [-1, 1] and labels be 0 or 1, other values came")
    return images, labels


def _check(n: int, seed: int, *, first: int, batch: int) -> None:
    if not 1 <= n <= MOST_PAIRS:
        raise ValueError(f"n must be 1 to {MOST_PAIRS}, got {n}")
    if not 0 <= seed <= _MOST:
        raise ValueError(f"seed must be 0 to 2^63 - 1, got {seed}")
    if not 0 <= first <= _MOST - n:
        raise ValueError(f"first must be 0 to 2^63 - 1 - n, got {first}")
    if not batch >= 1:
        raise ValueError(f"batch must be at least 1, got {batch}")
