"""Pairs a second are measured in ways that draw the same; how fast is not a test's to say."""

import os

import numpy as np
import pytest
import torch

from willis.shared.collection.remote_pairs import RemotePairs
from willis.simulations.benchmarks import other_programs, pairs_per_second
from willis.simulations.benchmarks.catalogue import BENCHES
from willis.simulations.benchmarks.served_pairs import RUN, served

WAYS = {
    "one draw each": 4,
    "item by item": 64,
    "batched": 64,
    "1 a forward": 1,
    "2 a forward": 2,
    "4 a forward": 4,
    "8 a forward": 8,
    "16 a forward": 16,
    "64 a forward": 64,
    "a block, literally": 64,
    "two workers": 512,
    "stream": 512,
    "stream of single pairs": 512,
}


@pytest.fixture(scope="module")
def source():
    return pairs_per_second._untrained((32, 32), 2)


def test_every_way_is_measured_beside_one_draw_each(monkeypatch):
    drawn: dict[str, set[int]] = {}
    honest = pairs_per_second._alternating

    def noted(ways, repeats):
        def counted(name, way):
            def ready():
                draw = way()

                def count():
                    n = draw()
                    drawn.setdefault(name, set()).add(n)
                    return n

                return count

            return ready

        return honest({name: counted(name, way) for name, way in ways.items()}, repeats)

    monkeypatch.setattr(pairs_per_second, "_SIZES", ((32, 32),))
    monkeypatch.setattr(pairs_per_second, "_alternating", noted)
    before = torch.get_num_threads()
    result = BENCHES["pairs-per-second"].run(True)
    assert torch.get_num_threads() == before
    assert result.machine["threads"] == str(os.cpu_count())
    assert [tuple(row[:3]) for row in result.rows] == [("32 x 32", 64, way) for way in WAYS]
    assert all(row[3] > 0 for row in result.rows)
    assert result.rows[0][4] == 1.0
    assert drawn == {way: {n} for way, n in WAYS.items()}


def test_volumes_are_drawn_four_at_a_time_where_a_block_is_one():
    source = pairs_per_second._untrained((64, 64, 64), 1)
    ways = pairs_per_second._drawing(source, source.sampler())
    assert {name: ready()() for name, ready in ways.items()} == {
        "one draw each": 4,
        "item by item": 4,
        "batched": 4,
    }


def test_no_forward_is_too_large_for_memory():
    source = pairs_per_second._untrained((64, 64, 64), 1)
    ways = [f"{n} a forward" for n in (1, 2, 4, 8)]  # 64 volumes would take 9 GB
    assert list(pairs_per_second._forwards(source.study, source.sampler())) == [*ways, "a block, literally"]


def test_one_draw_each_is_a_pair_of_the_batch(source):
    batch = pairs_per_second.SyntheticPairs(source, n=64, seed=1).__getitems__(range(64))
    alone = source.sampler().draw(first=1, n=1, seed=1)
    assert torch.equal(alone[0, :-1], batch[1][0])


def test_the_hub_draws_the_pairs_of_the_batch(source, tmp_path):
    batch = pairs_per_second.SyntheticPairs(source, n=3, seed=1).__getitems__(range(3))
    with served(tmp_path, source.study, arrays=source.arrays, spent=source.spent, cores=1) as door:
        images, labels = next(iter(RemotePairs(door, RUN, n=3, seed=1)))
    np.testing.assert_allclose(images, torch.stack([image for image, _ in batch]).numpy(), atol=1e-6)
    np.testing.assert_array_equal(labels[:, None], torch.stack([label for _, label in batch]).numpy())


def test_every_repeat_asks_for_a_way_that_is_made_ready_anew():
    ready: list[str] = []

    def way():
        ready.append("made")
        return lambda: 3

    speeds = pairs_per_second._alternating({"a": way}, 2)
    assert len(ready) == 3  # one round is not counted
    assert [len(some) for some in speeds.values()] == [2]


def test_other_programs_are_what_is_busy_beside_one_s_own(monkeypatch, tmp_path):
    stat, times, clock = tmp_path / "stat", [(1.0, 0.5, 2.0, 0.5, 0.0)], [10.0]
    monkeypatch.setattr(other_programs, "_STAT", stat)
    monkeypatch.setattr(other_programs.os, "times", lambda: times[0])
    monkeypatch.setattr(other_programs.os, "cpu_count", lambda: 2)
    monkeypatch.setattr(other_programs.time, "monotonic", lambda: clock[0])
    stat.write_text("cpu 100 200 300 9999 99 10 20 0 0 0\ncpu0 1 2 3\n")
    beside = other_programs.OtherPrograms()
    # 10 s on two cores: 12 s busy, of which 7 are one's own; 5 of 20 are others'.
    stat.write_text("cpu 700 500 500 9999 99 60 70 0 0 0\ncpu0 1 2 3\n")
    times[0], clock[0] = (4.0, 1.5, 4.0, 1.5, 0.0), 20.0
    assert beside.share() == pytest.approx(0.25)
    assert beside.sentence() == "Other programs took 25% of the cores meanwhile."
    stat.unlink()
    assert beside.sentence() == "What other programs did meanwhile is not known."


def test_the_network_is_nobodys(source):
    assert pairs_per_second.SyntheticPairs(source, n=1, seed=1).spent.epsilon == 0
