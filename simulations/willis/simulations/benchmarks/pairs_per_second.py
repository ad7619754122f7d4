"""Labelled pairs a second from a network on this machine: one by one, item by item, in batches.

Four ways draw the same pairs of one seed:

* one draw each: the sampler is asked for one pair at a time, which draws the whole block the pair lies in;
* one patch a forward: the network sees one patch at a time. Its rounding is not that of the pairs that
  ``willis synthesize`` writes, so nothing in Willis draws so; it is what blocks are to be measured by;
* item by item: ``SyntheticPairs[i]``, which remembers the block;
* batched: ``SyntheticPairs`` asked for a block's worth at once, as a ``DataLoader`` does.

The data set is made anew every time, with nothing remembered; building its network is not counted.

Ways alternate within a repeat, so that whatever else the machine does falls on all of them; ratios are
medians over the repeats, to the first way of the same repeat.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from willis.shared.networks.build import build_generator, public_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.shared.synthetic_pairs import SyntheticPairs
from willis.simulations.benchmarks.report import Measured

_SIZES = ((64, 64), (96, 96), (64, 64, 64))
_SEED = 1


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

    def sampler(self) -> NetworkSampler:
        return NetworkSampler(self.study, self.arrays)


def run(quick: bool = False) -> Measured:
    """Measure the generator of a study that says nothing of it, at three sizes; ``quick`` takes width 2."""
    repeats = 1 if quick else 5
    rows = [row for size in _SIZES for row in _measure(size, width=2 if quick else 32, repeats=repeats)]
    how = (
        "Pairs a second and ratio to one draw each in the same repeat (medians of "
        f"{repeats} alternating repeats), on the CPU: generator of width {2 if quick else 32}, depth 4, one "
        "image channel. `block` is how many patches the network draws at once whatever it is asked for; "
        "where it is 1, as in volumes of 64 x 64 x 64, there is nothing to win by asking for several."
    )
    return Measured("pairs-per-second", how, ("size", "block", "way", "pairs a second", "ratio"), rows)


def _measure(size: tuple[int, ...], *, width: int, repeats: int) -> list[list]:
    source = _untrained(size, width)
    sampler = source.sampler()
    ways = _ways(sampler)
    sampler.draw(first=0, n=1, seed=_SEED)  # warms up
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, draw in ways.items():
            pairs = _fresh(source, sampler.block)
            started = time.perf_counter()
            drawn = draw(pairs)
            speeds[name].append(drawn / (time.perf_counter() - started))
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


def _ways(sampler: NetworkSampler) -> dict[str, Callable[[SyntheticPairs], int]]:
    """Return the ways by name; each draws, and returns how many pairs."""
    alone = min(sampler.block, 8)

    def one_draw_each(pairs: SyntheticPairs) -> int:
        sampler.draw(first=1 % len(pairs), n=1, seed=_SEED)
        return 1

    @torch.no_grad()
    def one_patch_a_forward(pairs: SyntheticPairs) -> int:
        for i in range(alone):
            sampler.source.alone([public_generator("synthesis", _SEED, i)])
        return alone

    def item_by_item(pairs: SyntheticPairs) -> int:
        return sum(1 for i in range(len(pairs)) if pairs[i])

    def batched(pairs: SyntheticPairs) -> int:
        return len(pairs.__getitems__(range(len(pairs))))

    return {
        "one draw each": one_draw_each,
        "one patch a forward": one_patch_a_forward,
        "item by item": item_by_item,
        "batched": batched,
    }


def _fresh(source: _Untrained, block: int) -> SyntheticPairs:
    """Return a data set of one block whose network is built and has drawn nothing yet."""
    pairs = SyntheticPairs(source, n=block, seed=_SEED)
    if pairs.block != block:
        raise ValueError(f"the data set draws {pairs.block} patches at once, the sampler {block}")
    return pairs


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
