"""Blocks are drawn once while they are remembered, and memory is bounded; patches are the sampler's."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.drawn_blocks import DrawnBlocks
from willis.shared.patch import LabelledPatches


class Numbered:
    """A sampler whose patch i holds 100 seed + i in each of its 4 pixels; it notes what it is asked for."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    def draw(self, *, first: int, n: int, seed: int) -> LabelledPatches:
        self.asked.append((first, n))
        return (100 * seed + torch.arange(first, first + n)).float().reshape(n, 1, 1, 1).repeat(1, 2, 1, 2)


def blocks(*, n: int = 10, block: int = 4, memory: int = 10_000) -> tuple[DrawnBlocks, Numbered]:
    sampler = Numbered()
    return DrawnBlocks(sampler, n=n, seed=3, block=block, memory=memory), sampler


def values(drawn: DrawnBlocks, wanted: list[int]) -> list[float]:
    return [float(patch[0, 0, 0]) for patch in drawn.patches(wanted)]


def test_neighbouring_blocks_are_one_draw_and_are_not_drawn_again():
    drawn, sampler = blocks()
    assert values(drawn, [9, 0, 5]) == [309, 300, 305]
    assert sampler.asked == [(0, 10)]  # blocks 0 to 2, the last of them cut at n
    assert values(drawn, [1, 2, 8]) == [301, 302, 308]
    assert sampler.asked == [(0, 10)]


def test_only_what_is_missing_is_drawn():
    drawn, sampler = blocks(n=20)
    values(drawn, [4])
    values(drawn, [0, 4, 8, 19])
    assert sampler.asked == [(4, 4), (0, 4), (8, 4), (16, 4)]


def test_singly_drawn_patches_are_drawn_singly():
    drawn, sampler = blocks(block=1)
    values(drawn, [7, 2, 3])
    assert sampler.asked == [(2, 2), (7, 1)]


def test_the_block_asked_for_longest_ago_is_forgotten():
    # A patch has 2 channels of 2 pixels of 4 bytes: 16 bytes; a block of 4 has 64; two blocks fit.
    drawn, sampler = blocks(n=12, memory=128)
    for wanted in ([0], [4], [0], [8]):  # block 1 was asked for before block 0 was again
        values(drawn, wanted)
    sampler.asked.clear()
    values(drawn, [0, 8])
    assert sampler.asked == []
    values(drawn, [4])
    assert sampler.asked == [(4, 4)]


@pytest.mark.parametrize("memory", [0, 63])
def test_nothing_is_remembered_that_does_not_fit(memory):
    drawn, sampler = blocks(memory=memory)
    assert values(drawn, [0, 1, 2]) == values(drawn, [0, 1, 2]) == [300, 301, 302]
    assert sampler.asked == [(0, 4), (0, 4)]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(1, 30),
    block=st.integers(1, 7),
    memory=st.integers(0, 400),
    batches=st.lists(st.lists(st.integers(0, 29), max_size=9), max_size=6),
)
def test_any_order_gives_the_samplers_patches_within_memory(n, block, memory, batches):
    drawn, _ = blocks(n=n, block=block, memory=memory)
    for batch in batches:
        wanted = [number % n for number in batch]
        assert values(drawn, wanted) == [300 + number for number in wanted]
        held = {
            patch.untyped_storage().data_ptr(): patch.untyped_storage().nbytes()
            for patch in drawn._kept.values()
        }
        assert sum(held.values()) == drawn._bytes <= memory
