"""Pairs a second are measured in four ways that draw the same; how fast is not a test's to say."""

import torch

from willis.simulations.benchmarks import pairs_per_second
from willis.simulations.benchmarks.catalogue import BENCHES


def test_every_way_is_measured_beside_one_draw_each(monkeypatch):
    monkeypatch.setattr(pairs_per_second, "_SIZES", ((32, 32), (64, 64, 64)))
    result = BENCHES["pairs-per-second"].run(True)
    ways = ["one draw each", "one patch a forward", "item by item", "batched"]
    assert [tuple(row[:3]) for row in result.rows] == [
        (size, block, way) for size, block in (("32 x 32", 64), ("64 x 64 x 64", 1)) for way in ways
    ]
    assert all(row[3] > 0 for row in result.rows)
    assert [row[4] for row in result.rows if row[2] == "one draw each"] == [1.0, 1.0]


def test_a_way_tells_how_many_pairs_it_drew():
    source = pairs_per_second._untrained((32, 32), 2)
    ways = pairs_per_second._ways(source.sampler())
    drawn = {name: way(pairs_per_second._fresh(source, 64)) for name, way in ways.items()}
    assert drawn == {"one draw each": 1, "one patch a forward": 8, "item by item": 64, "batched": 64}


def test_one_draw_each_is_a_pair_of_the_batch():
    source = pairs_per_second._untrained((32, 32), 2)
    batch = pairs_per_second.SyntheticPairs(source, n=64, seed=1).__getitems__(range(64))
    alone = source.sampler().draw(first=1, n=1, seed=1)
    assert torch.equal(alone[0, :-1], batch[1][0])


def test_the_network_is_nobodys():
    source = pairs_per_second._untrained((32, 32), 2)
    assert pairs_per_second.SyntheticPairs(source, n=1, seed=1).spent.epsilon == 0
