"""Labelled pairs a second from a network on this machine: one by one, in batches, by workers, from a hub.

Every way draws pairs of one seed, on all cores:

* one draw each: the sampler is asked for one pair at a time, which draws the whole block the pair lies in;
* item by item: ``SyntheticPairs[i]``, which remembers the block;
* batched: ``SyntheticPairs`` asked for a block's worth at once, as a ``DataLoader`` does;
* two workers: a ``DataLoader`` with two processes, one core each, batches of a block;
* stream: ``RemotePairs`` of a hub in another process on this machine, TLS and a token, batches of 64;
* stream of single pairs: the same with one pair a message;
* 1, 2, 4 ... a forward: the network sees that many at once. Their rounding is not that of the pairs that
  ``willis synthesize`` writes, so nothing in Willis draws so: it is what blocks are to be chosen by;
* literally: a block with doublings computed as they are while the network is trained.

What a way needs beforehand (processes, connections, networks built) is not counted; nothing is remembered
from one repeat to the next. Ways alternate within a repeat, so that whatever else the machine does falls on
all of them; ratios are medians over the repeats, to the first way of the same repeat.
"""

import gc
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from torch.utils.data import DataLoader

from willis.shared.collection.door import HubDoor
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.networks.build import build_generator, public_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.shared.synthetic_pairs import SyntheticPairs
from willis.simulations.benchmarks.other_programs import OtherPrograms
from willis.simulations.benchmarks.report import Measured
from willis.simulations.benchmarks.served_pairs import RUN, served

_SIZES = ((64, 64), (96, 96), (64, 64, 64))
_SEED = 1
_LEAST = 4  # pairs that a way draws for one timing, where a block has fewer
_BLOCKS = 8  # that workers and streams draw, so that both workers have some
_FORWARDS = (1, 2, 4, 8, 16, 64)
_MOST_PIXELS = 2**21  # of a forward: 1 GB of memory in the widest layers

# What makes a way ready, which is not timed, and returns what is: it draws, and tells how many pairs.
Way = Callable[[], Callable[[], int]]


@dataclass(frozen=True)
class _Untrained:
    """A network with first weights: as fast as one that has learned, and nobody's data."""

    study: Study
    arrays: dict[str, np.ndarray]

    @property
    def spent(self) -> PrivacySpent:
        privacy = self.study.privacy
        return PrivacySpent(
            epsilon=0, delta=privacy.delta, unit=privacy.unit, relation=privacy.relation, accountant="none"
        )

    @property
    def digest(self) -> str:
        return self.study.digest()

    def sampler(self) -> NetworkSampler:
        return NetworkSampler(self.study, self.arrays)


def run(quick: bool = False) -> Measured:
    """Measure the generator of a study that says nothing of it, at three sizes; ``quick`` takes width 2."""
    repeats, width = (1, 2) if quick else (5, 32)
    with _every_core() as cores:
        beside = OtherPrograms()
        rows = [row for size in _SIZES for row in _measure(size, width=width, repeats=repeats, cores=cores)]
        how = (
            "Pairs a second and ratio to one draw each in the same repeat (medians of "
            f"{repeats} alternating repeats), on the CPU with {cores} threads: generator of width {width}, "
            "depth 4, one image channel. `block` is how many patches the network draws at once whatever it "
            f"is asked for. The module says what each way is. {beside.sentence()}"
        )
        return Measured("pairs-per-second", how, ("size", "block", "way", "pairs a second", "ratio"), rows)


@contextmanager
def _every_core() -> Iterator[int]:
    """Let torch use every core, whatever the environment says; yield how many there are."""
    cores, before = os.cpu_count() or 1, torch.get_num_threads()
    torch.set_num_threads(cores)
    try:
        yield cores
    finally:
        torch.set_num_threads(before)


def _measure(size: tuple[int, ...], *, width: int, repeats: int, cores: int) -> list[list]:
    source = _untrained(size, width)
    sampler = source.sampler()
    with TemporaryDirectory() as folder, _workers(source, sampler.block) as loader:
        place = Path(folder)
        with served(place, source.study, arrays=source.arrays, spent=source.spent, cores=cores) as door:
            ways = (
                _drawing(source, sampler)
                | _forwards(source.study, sampler)
                | _apart(loader, door, sampler.block)
            )
            speeds = _alternating(ways, repeats)
    base = speeds["one draw each"]
    shown = " x ".join(map(str, size))
    return [
        [
            shown,
            sampler.block,
            name,
            statistics.median(some),
            statistics.median(np.divide(some, base).tolist()),
        ]
        for name, some in speeds.items()
    ]


def _alternating(ways: dict[str, Way], repeats: int) -> dict[str, list[float]]:
    """Return the pairs a second of each way in each repeat, after one round that is not counted."""
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(-1, repeats):
        for name, ready in ways.items():
            draw = ready()
            started = time.perf_counter()
            speed = draw() / (time.perf_counter() - started)
            if repeat >= 0:
                speeds[name].append(speed)
    return speeds


def _drawing(source: _Untrained, sampler: NetworkSampler) -> dict[str, Way]:
    """The ways of one process, each with a data set that remembers nothing yet."""
    n = max(sampler.block, _LEAST)

    def fresh() -> SyntheticPairs:
        pairs = SyntheticPairs(source, n=n, seed=_SEED)
        if pairs.block != sampler.block:
            raise ValueError(f"the data set draws {pairs.block} patches at once, the sampler {sampler.block}")
        return pairs

    def one_draw_each() -> Callable[[], int]:
        return lambda: sum(len(sampler.draw(first=i, n=1, seed=_SEED)) for i in range(_LEAST))

    def item_by_item() -> Callable[[], int]:
        pairs = fresh()
        return lambda: sum(1 for i in range(n) if pairs[i])

    def batched() -> Callable[[], int]:
        pairs = fresh()
        return lambda: len(pairs.__getitems__(range(n)))

    return {"one draw each": one_draw_each, "item by item": item_by_item, "batched": batched}


def _forwards(study: Study, sampler: NetworkSampler) -> dict[str, Way]:
    """The network alone, with that many patches at once."""

    def forward(patches: int, *, literally: bool = False) -> Way:
        def drawn() -> int:
            dice = [public_generator("synthesis", _SEED, i) for i in range(patches)]
            with torch.set_grad_enabled(literally):  # no weight asks for a gradient: none is kept
                return len(sampler.source.alone(dice))

        return lambda: drawn

    most = _MOST_PIXELS // prod(study.patch.size)
    ways = {f"{patches} a forward": forward(patches) for patches in _FORWARDS if patches <= most}
    return ways | {"a block, literally": forward(sampler.block, literally=True)}


def _apart(loader: DataLoader, door: HubDoor, block: int) -> dict[str, Way]:
    """The ways of several processes."""

    def workers() -> Callable[[], int]:
        return lambda: sum(len(images) for images, _ in loader)

    def stream(batch: int) -> Way:
        def connected() -> Callable[[], int]:
            pairs = RemotePairs(door, RUN, n=_BLOCKS * block, seed=_SEED, batch=batch)
            return lambda: sum(len(images) for images, _ in pairs)

        return connected

    return {"two workers": workers, "stream": stream(64), "stream of single pairs": stream(1)}


@contextmanager
def _workers(source: _Untrained, block: int) -> Iterator[DataLoader]:
    """Yield a loader whose two processes run and remember nothing."""
    pairs = SyntheticPairs(source, n=_BLOCKS * block, seed=_SEED, memory_mib=0)
    loader = DataLoader(
        pairs,
        batch_size=block,
        num_workers=2,
        persistent_workers=True,
        multiprocessing_context="spawn",  # a process with open calls must not be forked
    )
    yield loader
    del loader
    gc.collect()


def _untrained(size: tuple[int, ...], width: int) -> _Untrained:
    values = {
        "name": "bench",
        "patch": {"size": list(size)},
        "prior": {"family": "vessels"},
        "networks": {"generator_width": width},
        "privacy": {"unit": "subject", "epsilon": 8, "delta": 1e-3, "sampling_rate": 1},
        "training": {"rounds": 1, "critic_steps": 1, "critic_per_generator": 1},
        "federation": {"quorum": 1, "sites": [{"name": "site", "subjects": 2}]},
    }
    study = parse(values, Study, where="bench")
    return _Untrained(study, arrays_of(build_generator(study)))
