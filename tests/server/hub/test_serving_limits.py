"""Limits by hand, with a clock of the test's own; and the samplers that stay in memory."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import numpy as np
import pytest
from harness.serving_trial import RUN, add_release, door_of, hub_with_release, kit_of, until_invited

from willis.server.hub.collectors import GuestList, invite, token_digest, uninvite
from willis.server.hub.serving import serving
from willis.server.hub.serving_draws import DrawingRoom, RoomClosed
from willis.server.hub.serving_limits import Limits, StallWatch
from willis.server.hub.serving_refusal import Refused
from willis.server.hub.serving_releases import ServedRelease, Shelf
from willis.server.hub.settings import CollectionSettings, HubSettings
from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.refusal import VERSION, CollectionRefused
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.errors import StateError, Unreachable
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.release import read_release


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_calls_a_minute_by_hand() -> None:
    clock = Clock()
    limits = Limits(CollectionSettings(calls_a_minute=3), clock=clock)
    for clock.now in (0.0, 10.0, 20.0):
        limits.count_call("a")
    clock.now = 30.0
    with pytest.raises(Refused, match="at most 3 calls a minute; ask again in 30 s") as refused:
        limits.count_call("a")
    assert (refused.value.status, refused.value.retry_s) == (grpc.StatusCode.RESOURCE_EXHAUSTED, 30.0)
    limits.count_call("b")  # another collector is not concerned
    clock.now = 60.0
    limits.count_call("a")
    with pytest.raises(Refused):
        limits.count_call("a")


def test_streams_by_hand() -> None:
    limits = Limits(CollectionSettings(streams_a_collector=2, streams=3))
    with limits.stream("a"), limits.stream("a"):
        with pytest.raises(Refused, match="at most 2 streams at once for one"), limits.stream("a"):
            pytest.fail("a third")
        with limits.stream("b"):
            with pytest.raises(Refused, match="the hub serves 3 streams"), limits.stream("c"):
                pytest.fail("a fourth of all")
            assert limits.streams() == 3
    assert limits.streams() == 0


def test_a_stream_that_nobody_reads_is_ended() -> None:
    clock, ended = Clock(), []
    watch = StallWatch(60.0, clock=clock)
    with watch.handed_over(lambda: ended.append("slow")):
        clock.now = 59.0
        assert watch.look() == 0
        clock.now = 60.0
        with watch.handed_over(lambda: ended.append("fresh")):
            assert watch.look() == 1
            assert watch.look() == 0
    assert ended == ["slow"]
    clock.now = 1000.0
    assert watch.look() == 0  # both have left


def test_a_real_stream_that_nobody_reads_is_ended(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path, noise_bytes=8 << 20, stall_s=0.5)
    kit = kit_of(hub)
    with serving(hub, grace_s=0) as served, door_of(kit) as door:
        digest = door.describe(RUN).release.digest
        ask = words.FetchRequest(version=VERSION, release=RUN, digest=digest, file="noise.bin")
        stream = door.fetch(lambda: ask)
        next(stream)  # and no more: the rest waits in the hub
        assert served.limits.streams() == 1
        ended, patience = 0, threading.Event()
        for _ in range(100):
            ended += served.stalls.look()
            if served.limits.streams() == 0:
                break
            patience.wait(0.1)
        assert (ended, served.limits.streams()) == (1, 0)


def test_a_busy_collector_is_told_to_wait(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path, calls_a_minute=2)
    with serving(hub, grace_s=0), door_of(kit_of(hub)) as door:
        door.releases()
        door.releases()
        with pytest.raises(CollectionRefused, match="at most 2 calls a minute; ask again in"):
            door.releases()


def test_few_samplers_are_kept_the_oldest_goes_first(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path)
    for number in (2, 3):
        add_release(hub, f"tiny-{number}", noise_bytes=16, seed=number)
    one, two, three = Shelf(hub).all()
    wanted = read_release(one.folder).sampler().draw(first=4, n=2, seed=9).numpy()
    with DrawingRoom(samplers=2) as room:
        images, labels = drawn(room, one, first=4, n=2, seed=9)
        np.testing.assert_allclose(images, wanted[:, :-1], atol=1e-6)
        np.testing.assert_array_equal(labels, wanted[:, -1] > 0)
        for release in (two, one, three):
            drawn(room, release, first=0, n=1, seed=0)
        assert room.kept() == [one.digest, three.digest]
        stream = room.begin(one, end=1, seed=0)
    with pytest.raises(RoomClosed):
        stream.take(first=0, n=1)


def drawn(room: DrawingRoom, release: ServedRelease, *, first: int, n: int, seed: int) -> tuple:
    return room.begin(release, end=first + n, seed=seed).take(first=first, n=n)


def test_a_sampler_that_fails_is_a_fault_of_the_hub_and_no_reason_to_ask_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    hub = hub_with_release(tmp_path)
    kit = kit_of(hub, "lab")

    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(NetworkSampler, "draw", fails)
    with serving(hub, grace_s=0), door_of(kit) as door:
        until_invited(door)
        with pytest.raises(Unreachable, match="the hub failed; its log says why"):
            next(iter(RemotePairs(door, RUN, n=1, seed=0)))
    assert "shapes do not fit" in caplog.text


def test_an_invitation_ends_by_the_clock(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path)
    kit, made = invite(hub, "lab", out=tmp_path / "kits", days=2)
    token = (kit / "token").read_text().strip()
    assert token not in (hub.collectors / "lab.toml").read_text()
    now, clock = [datetime.now(UTC)], Clock()
    guests = GuestList(hub.collectors, now=lambda: now[0], clock=clock)
    assert guests.find("token", token_digest(token)) == made
    assert guests.find("certificate", token_digest(token)) is None
    assert guests.find("token", token_digest(token + "x")) is None
    now[0] = made.until - timedelta(seconds=1)
    assert guests.stands(made)
    now[0] = made.until
    assert guests.find("token", token_digest(token)) is None
    assert not guests.stands(made)
    now[0] -= timedelta(days=1)
    uninvite(hub, "lab")
    assert guests.stands(made)  # for a second at most
    clock.now = 1.0
    assert not guests.stands(made)


def test_two_doors_are_two_ports() -> None:
    with pytest.raises(ValueError, match="port and certificate_port must differ, got 8444 for both"):
        CollectionSettings(port=8444, certificate_port=8444)
    told = {"host": "localhost", "collection": {"port": 9000}}
    assert HubSettings.model_validate(told).collection.certificate_port == 8445


def test_a_damaged_invitation_invites_nobody_and_harms_nobody(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path)
    kit, made = invite(hub, "lab", out=tmp_path / "kits", days=2)
    (hub.collectors / "other.toml").write_text("name = ")
    guests = GuestList(hub.collectors)
    assert guests.find("token", token_digest((kit / "token").read_text().strip())) == made


def test_who_is_invited_is_not_invited_again(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path)
    invite(hub, "lab", out=tmp_path / "kits", days=2)
    with pytest.raises(StateError, match="is invited already"):
        invite(hub, "lab", out=tmp_path / "other", days=2)
    uninvite(hub, "lab")
    with pytest.raises(StateError, match="a kit overwrites nothing"):
        invite(hub, "lab", out=tmp_path / "kits", days=2)
    with pytest.raises(StateError, match="'lab' is not invited; invited are: none"):
        uninvite(hub, "lab")
    with pytest.raises(StateError, match="lower-case letters"):
        invite(hub, "../lab", out=tmp_path / "kits", days=2)
    with pytest.raises(ValueError, match="days must be 1 to 3650, got 0"):
        invite(hub, "lab-b", out=tmp_path / "kits", days=0)
