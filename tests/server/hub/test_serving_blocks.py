"""A network draws whole blocks; a stream has each block drawn once, whatever the size of its messages."""

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from harness.serving_trial import RUN, add_release, door_of, hub_with_release, kit_of
from torch import Tensor

from willis.server.hub.folder import HubFolder
from willis.server.hub.serving import serving
from willis.server.hub.serving_draws import DrawingRoom
from willis.server.hub.serving_releases import ServedRelease, Shelf
from willis.shared.collection.door import HubDoor
from willis.shared.collection.kit import CollectorKit
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.recipes.network_sampler import LatentSource, NetworkSampler
from willis.shared.release import read_release

BLOCK = 64


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubFolder:
    return hub_with_release(tmp_path_factory.mktemp("blocks"), calls_a_minute=10_000, streams_a_collector=8)


@pytest.fixture(scope="module")
def kit(hub: HubFolder) -> Iterator[CollectorKit]:
    made = kit_of(hub)
    with serving(hub, grace_s=0):
        yield made


@pytest.fixture
def door(kit: CollectorKit) -> Iterator[HubDoor]:
    with door_of(kit) as opened:
        yield opened


@pytest.fixture
def forwards(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return a list of how many patches each forward of the network made."""
    seen: list[int] = []
    honest = LatentSource.alone

    def counted(source: LatentSource, dice: list) -> Tensor:
        seen.append(len(dice))
        return honest(source, dice)

    monkeypatch.setattr(LatentSource, "alone", counted)
    return seen


@pytest.mark.parametrize(
    ("first", "n", "batch", "blocks"),
    [
        (0, 130, 1, 3),  # pairs 0 to 129: blocks 0, 1 and 2
        (0, 130, 5, 3),
        (0, 128, 48, 2),
        (60, 8, 3, 2),  # over the border at 64
        (63, 1, 1, 1),
        (64, 64, 64, 1),
        (100, 900, 1000, 15),  # messages of 819 pairs at most: blocks 1 to 15
    ],
)
def test_a_stream_has_each_block_drawn_once(
    door: HubDoor, forwards: list[int], first: int, n: int, batch: int, blocks: int
) -> None:
    pairs = RemotePairs(door, RUN, n=n, seed=1, first=first, batch=batch)
    assert sum(len(images) for images, _ in pairs) == n
    assert forwards == [BLOCK] * blocks


def test_streams_that_take_turns_do_not_draw_each_others_blocks_again(
    door: HubDoor, forwards: list[int]
) -> None:
    streams = [iter(RemotePairs(door, RUN, n=70, seed=seed, batch=10)) for seed in range(3)]
    for _ in range(7):
        for stream in streams:
            next(stream)
    assert forwards == [BLOCK] * 2 * 3


def test_the_pairs_are_those_of_the_release(door: HubDoor, hub: HubFolder) -> None:
    """The witness: the sampler of the release on this machine, asked once."""
    wanted = read_release(hub.runs / RUN / "release").sampler().draw(first=50, n=30, seed=2).numpy()
    pairs = RemotePairs(door, RUN, n=30, seed=2, first=50, batch=7)
    images, labels = (np.concatenate(parts) for parts in zip(*pairs, strict=True))
    np.testing.assert_allclose(images, wanted[:, :-1], atol=1e-6)
    np.testing.assert_array_equal(labels, wanted[:, -1] > 0)


def served(hub: HubFolder) -> ServedRelease:
    return Shelf(hub).find(RUN)


def test_a_stream_remembers_one_block_at_most_and_no_sampler(hub: HubFolder) -> None:
    bytes_a_block = BLOCK * 2 * 16 * 16 * 4
    with DrawingRoom() as room:
        stream = room.begin(served(hub), end=10 * BLOCK, seed=0)
        for first, n in ((0, 10), (10, 300), (310, 1), (311, 200)):
            stream.take(first=first, n=n)
            blocks = stream._blocks
            assert blocks is not None
            assert 0 < blocks._bytes <= bytes_a_block
            assert blocks._sampler is stream  # which asks the room each time


def test_what_is_sent_does_not_hold_the_block_in_memory(hub: HubFolder) -> None:
    with DrawingRoom() as room:
        images, labels = room.begin(served(hub), end=BLOCK, seed=0).take(first=3, n=2)
    for sent, kind, shape in ((images, np.float32, (2, 1, 16, 16)), (labels, np.int8, (2, 16, 16))):
        assert (sent.dtype, sent.shape) == (kind, shape)
        assert sent.flags.c_contiguous
        assert torch.from_numpy(sent).untyped_storage().nbytes() == sent.nbytes


def test_a_stream_that_asks_for_much_does_not_hold_up_one_that_asks_for_little(
    hub: HubFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for one message of the other, not for all of them: 60 against 10 here."""
    order: list[int] = []
    honest = NetworkSampler.draw

    def noted(sampler: NetworkSampler, *, first: int, n: int, seed: int) -> Tensor:
        order.append(seed)
        return honest(sampler, first=first, n=n, seed=seed)

    monkeypatch.setattr(NetworkSampler, "draw", noted)
    release, begin = served(hub), threading.Barrier(2)

    def take(seed: int, messages: int) -> None:
        stream = room.begin(release, end=messages * BLOCK, seed=seed)
        begin.wait(10)
        for number in range(messages):
            stream.take(first=number * BLOCK, n=BLOCK)

    with DrawingRoom() as room, ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(take, 1, 60), pool.submit(take, 2, 10)]:
            done.result(60)
    last = max(at for at, seed in enumerate(order) if seed == 2)
    assert (order.count(1), order.count(2)) == (60, 10)
    assert order[:last].count(1) <= 30


def test_a_stream_holds_no_sampler_that_has_made_room(tmp_path: Path) -> None:
    own = hub_with_release(tmp_path)
    add_release(own, "tiny-2", noise_bytes=16)
    shelf = Shelf(own)
    with DrawingRoom(samplers=1) as room:
        stream = room.begin(shelf.find(RUN), end=2 * BLOCK, seed=0)
        stream.take(first=0, n=1)
        sampler = weakref.ref(room.sampler(shelf.find(RUN)))
        assert sampler() is not None
        room.begin(shelf.find("tiny-2"), end=1, seed=0).take(first=0, n=1)
        gc.collect()
        assert sampler() is None
        assert len(stream.take(first=1, n=BLOCK)[0]) == BLOCK  # with one that was read again
