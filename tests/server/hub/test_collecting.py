"""A release is fetched whole or not at all: over a line that is cut, a hub that dies, a disk that fills."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from harness.serving_trial import (
    RUN,
    CuttingLine,
    bytes_of,
    door_of,
    hub_with_release,
    kit_of,
)

from willis.server.hub.folder import HubFolder
from willis.server.hub.serving import serving
from willis.shared.collection import collection_pb2 as words
from willis.shared.collection import fetching
from willis.shared.collection.door import HubDoor
from willis.shared.collection.fetching import fetch_release
from willis.shared.collection.kit import CollectorKit
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.errors import ReleaseError, StateError, Unreachable
from willis.shared.release import read_release

CHUNK = 256 << 10
NOISE = 48 * CHUNK + 77


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubFolder:
    return hub_with_release(tmp_path_factory.mktemp("collecting"), noise_bytes=NOISE, calls_a_minute=10_000)


@pytest.fixture(scope="module")
def kit(hub: HubFolder) -> CollectorKit:
    return kit_of(hub)


@pytest.fixture
def door(hub: HubFolder, kit: CollectorKit) -> Iterator[HubDoor]:
    with serving(hub, grace_s=0), door_of(kit) as opened:
        yield opened


def hidden(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.name.startswith(".")]


def test_a_line_cut_at_every_tenth_chunk_brings_every_byte(hub: HubFolder, tmp_path: Path) -> None:
    with (
        serving(hub, grace_s=0),
        CuttingLine(hub.settings.collection.port, after=10 * CHUNK) as line,
        door_of(kit_of(hub, "cut", port=line.port)) as door,
    ):
        fetch_release(door, RUN, out=tmp_path / "got")
    assert line.cuts >= NOISE // (10 * CHUNK)
    assert bytes_of(tmp_path / "got") == bytes_of(hub.runs / RUN / "release")
    assert hidden(tmp_path) == []


def test_a_draw_over_a_line_that_is_cut_is_the_same_draw(hub: HubFolder) -> None:
    with (
        serving(hub, grace_s=0),
        CuttingLine(hub.settings.collection.port, after=60_000) as line,
        door_of(kit_of(hub, "cut-draw", port=line.port)) as door,
    ):
        came = list(RemotePairs(door, RUN, n=100, seed=5, batch=7))
    wanted = read_release(hub.runs / RUN / "release").sampler().draw(first=0, n=100, seed=5).numpy()
    np.testing.assert_allclose(np.concatenate([one for one, _ in came]), wanted[:, :-1], atol=1e-6)
    assert line.cuts >= 2  # 100 pairs of 1280 bytes


def test_a_hub_that_is_killed_in_a_fetch_and_comes_back(
    hub: HubFolder, kit: CollectorKit, tmp_path: Path
) -> None:
    with ExitStack() as lives, door_of(kit) as door:
        life = lives.enter_context(ExitStack())
        life.enter_context(serving(hub, grace_s=0))
        kills: list[int] = []

        def kill(done: int, total: int) -> None:
            if len(kills) < 3 and done > total * (len(kills) + 1) // 4:
                kills.append(done)
                life.close()
                life.enter_context(serving(hub, grace_s=0))

        fetch_release(door, RUN, out=tmp_path / "got", progress=kill)
    assert len(kills) == 3
    assert bytes_of(tmp_path / "got") == bytes_of(hub.runs / RUN / "release")


def test_a_hub_that_stays_away_leaves_what_arrived_and_the_next_call_goes_on(
    hub: HubFolder, kit: CollectorKit, tmp_path: Path
) -> None:
    class Gone(Exception):
        """The collector's own machine stops."""

    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise Gone

    with serving(hub, grace_s=0), door_of(kit) as door, pytest.raises(Gone):
        fetch_release(door, RUN, out=tmp_path / "got", progress=stop)
    assert not (tmp_path / "got").exists()
    (part,) = hidden(tmp_path)
    arrived = sum(map(len, bytes_of(part).values()))
    assert arrived > NOISE // 2
    with door_of(kit) as door, pytest.raises(Unreachable):
        fetch_release(door, RUN, out=tmp_path / "got")
    seen: list[int] = []
    with serving(hub, grace_s=0), door_of(kit) as door:
        fetch_release(door, RUN, out=tmp_path / "got", progress=lambda done, _: seen.append(done))
    assert min(one for one in seen if one > arrived) - arrived <= CHUNK
    chunks = len(seen)
    assert chunks < 1.2 * (NOISE - arrived) / CHUNK + 40  # it did not begin anew
    assert bytes_of(tmp_path / "got") == bytes_of(hub.runs / RUN / "release")


def test_what_arrived_and_was_spoilt_is_fetched_anew(door: HubDoor, hub: HubFolder, tmp_path: Path) -> None:
    digest = hashlib.sha256((hub.runs / RUN / "release" / "SHA256SUMS").read_bytes()).hexdigest()
    part = tmp_path / f".got.{digest[:16]}.part"
    part.mkdir()
    (part / "noise.bin").write_bytes(b"\x01" * CHUNK)
    (part / "LICENSE").write_bytes(b"far too long" * 2000)
    fetch_release(door, RUN, out=tmp_path / "got")
    assert bytes_of(tmp_path / "got") == bytes_of(hub.runs / RUN / "release")


def test_a_stranger_in_the_part_folder_is_not_taken_along(
    door: HubDoor, hub: HubFolder, tmp_path: Path
) -> None:
    digest = hashlib.sha256((hub.runs / RUN / "release" / "SHA256SUMS").read_bytes()).hexdigest()
    part = tmp_path / f".got.{digest[:16]}.part"
    part.mkdir()
    (part / "sitecustomize.py").write_text("print('run me')")
    with pytest.raises(ReleaseError, match=r"sitecustomize\.py: not signed"):
        fetch_release(door, RUN, out=tmp_path / "got")
    assert not (tmp_path / "got").exists()


def test_a_link_in_the_part_folder_is_not_followed(door: HubDoor, hub: HubFolder, tmp_path: Path) -> None:
    digest = hashlib.sha256((hub.runs / RUN / "release" / "SHA256SUMS").read_bytes()).hexdigest()
    part, victim = tmp_path / f".got.{digest[:16]}.part", tmp_path / "victim"
    part.mkdir()
    victim.write_text("mine")
    (part / "LICENSE").symlink_to(victim)
    with pytest.raises(StateError, match="cannot write"):
        fetch_release(door, RUN, out=tmp_path / "got")
    assert victim.read_text() == "mine"


def test_a_target_that_holds_something_is_left_alone(door: HubDoor, tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    (tmp_path / "got" / "thesis.txt").write_text("mine")
    with pytest.raises(StateError, match="already holds something"):
        fetch_release(door, RUN, out=tmp_path / "got")
    assert bytes_of(tmp_path) == {"got/thesis.txt": b"mine"}


def test_a_disk_that_fills_leaves_nothing_at_the_target(
    door: HubDoor, hub: HubFolder, tmp_path: Path
) -> None:
    """A file system of 8 MB, where root may mount one."""
    place = tmp_path / "small"
    place.mkdir()
    if os.system(f"mount -t tmpfs -o size=8m tmpfs {place} 2>/dev/null") != 0:
        pytest.skip("no tmpfs can be mounted here: it needs root")
    try:
        with pytest.raises(StateError, match="free some disk"):
            fetch_release(door, RUN, out=place / "got")
        with pytest.MonkeyPatch.context() as patch:  # as though others filled it meanwhile
            patch.setattr(fetching.shutil, "disk_usage", lambda _: SimpleNamespace(free=1 << 40))
            with pytest.raises(StateError, match="No space left on device; free some disk"):
                fetch_release(door, RUN, out=place / "got")
        assert not (place / "got").exists()
        assert os.system(f"mount -o remount,size=64m {place}") == 0
        fetch_release(door, RUN, out=place / "got")
        assert bytes_of(place / "got") == bytes_of(hub.runs / RUN / "release")
    finally:
        assert os.system(f"umount {place}") == 0


def test_two_fetches_into_one_target_are_one_too_many(door: HubDoor, tmp_path: Path) -> None:
    def again(done: int, total: int) -> None:
        if done > total // 2:
            with pytest.raises(StateError, match="another `willis collect fetch` fills"):
                fetch_release(door, RUN, out=tmp_path / "got")

    fetch_release(door, RUN, out=tmp_path / "got", progress=again)
    assert (tmp_path / "got" / "LICENSE").exists()


@pytest.mark.parametrize("name", ["LICENSE", "models/model.safetensors", "models/model.pt", "noise.bin"])
@pytest.mark.parametrize("change", ["byte", "more", "less"])
def test_other_bytes_than_were_signed_are_refused(
    door: HubDoor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, change: str
) -> None:
    """A hub, or who stands in its place, sends something else under a signed name."""
    honest = door.fetch

    def spoilt(ask) -> Iterator[words.Chunk]:
        if ask().file != name:
            yield from honest(ask)
            return
        data = b"".join(chunk.data for chunk in honest(ask))
        other = {"byte": data[:-1] + bytes([data[-1] ^ 1]), "more": data + b"!", "less": data[:-1]}[change]
        for at in range(0, len(other), CHUNK):
            yield words.Chunk(data=other[at : at + CHUNK])

    monkeypatch.setattr(door, "fetch", spoilt)
    said = {"byte": "is not what was signed", "more": "other bytes than was said", "less": "ends after"}
    with pytest.raises(ReleaseError, match=said[change]):
        fetch_release(door, RUN, out=tmp_path / "got")
    assert not (tmp_path / "got").exists()
