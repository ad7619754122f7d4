"""``willis hub serve`` on the loopback with TLS: every call, and whatever cannot be asked."""

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from harness.serving_trial import RUN, add_release, bytes_of, door_of, hub_with_release, kit_of, settings_of

from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.serving import ServingHub, serving
from willis.server.hub.serving_check import SERVICE, check_serving
from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.collection_pb2_grpc import CollectionStub
from willis.shared.collection.description import checked
from willis.shared.collection.door import HubDoor
from willis.shared.collection.fetching import fetch_release
from willis.shared.collection.kit import CollectorKit
from willis.shared.collection.refusal import VERSION
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.errors import ReleaseError, StateError, Unreachable
from willis.shared.release import read_release

LIMITS = {"most_pairs": 1000, "calls_a_minute": 10_000}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubFolder:
    return hub_with_release(tmp_path_factory.mktemp("serving"), **LIMITS)


@pytest.fixture(scope="module")
def served(hub: HubFolder) -> Iterator[ServingHub]:
    with serving(hub, grace_s=0) as told:
        yield told


@pytest.fixture(scope="module")
def kit(hub: HubFolder) -> CollectorKit:
    return kit_of(hub, "lab")


@pytest.fixture
def door(served: ServingHub, kit: CollectorKit) -> Iterator[HubDoor]:
    del served
    with door_of(kit) as opened:
        yield opened


@pytest.fixture
def stub(served: ServingHub, kit: CollectorKit) -> Iterator[CollectionStub]:
    """The service without Willis' own client, its proof sent with every call."""
    token = grpc.access_token_call_credentials(kit.token or "")
    trusted = grpc.composite_channel_credentials(grpc.ssl_channel_credentials(kit.authority), token)
    with grpc.secure_channel(served.address.replace("127.0.0.1", "localhost"), trusted) as channel:
        yield CollectionStub(channel)


def test_the_list_says_what_stands_behind_a_release(door: HubDoor, hub: HubFolder) -> None:
    told = door.releases()
    release = read_release(hub.runs / RUN / "release")
    assert [one.name for one in told] == [RUN]
    assert (told[0].digest, told[0].study) == (release.digest, "tiny-study")
    assert told[0].privacy == release.spent.sentence()
    signed = [path for name, path in bytes_of(release.folder).items() if not name.startswith("SHA256SUMS")]
    assert told[0].bytes == sum(map(len, signed))


def test_a_description_is_the_sheet_and_the_files(door: HubDoor, hub: HubFolder, kit: CollectorKit) -> None:
    told = checked(door.describe(RUN), name=RUN, key=kit.release_key)
    folder = hub.runs / RUN / "release"
    assert told.sheet == json.loads((folder / "release.json").read_bytes())
    files = {name: len(data) for name, data in bytes_of(folder).items() if "SHA256SUMS" not in name}
    assert told.sizes == files
    assert (told.image_shape, told.most_pairs, told.pair_bytes) == ((1, 16, 16), 1000, 5 * 256)


def test_a_fetched_release_is_the_hubs_byte_for_byte(door: HubDoor, hub: HubFolder, tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    fetch_release(door, RUN, out=tmp_path / "got", progress=lambda done, total: seen.append((done, total)))
    assert bytes_of(tmp_path / "got") == bytes_of(hub.runs / RUN / "release")
    assert [path.name for path in tmp_path.iterdir()] == ["got"]
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 0


def test_drawn_pairs_are_those_of_the_release(door: HubDoor, hub: HubFolder) -> None:
    """The witness: the sampler of the release on this machine."""
    wanted = read_release(hub.runs / RUN / "release").sampler().draw(first=3, n=11, seed=7).numpy()
    batches = list(RemotePairs(door, RUN, n=11, seed=7, first=3, batch=4))
    assert [len(images) for images, _ in batches] == [4, 4, 3]
    images, labels = (np.concatenate(parts) for parts in zip(*batches, strict=True))
    assert (images.dtype, labels.dtype) == (np.float32, np.int8)
    np.testing.assert_allclose(images, wanted[:, :-1], atol=1e-6)
    np.testing.assert_array_equal(labels, wanted[:, -1] > 0)


@pytest.mark.parametrize("batch", [1, 5, 64])
def test_the_batch_changes_no_pair(door: HubDoor, batch: int) -> None:
    pairs = RemotePairs(door, RUN, n=11, seed=7, batch=batch)
    images = np.concatenate([images for images, _ in pairs])
    again = np.concatenate([images for images, _ in RemotePairs(door, RUN, n=11, seed=7)])
    np.testing.assert_allclose(images, again, atol=1e-6)
    assert len(pairs) == -(-11 // batch)


def test_many_pairs_come_in_messages_of_a_megabyte(stub: CollectionStub, door: HubDoor) -> None:
    digest = door.describe(RUN).release.digest
    request = words.DrawRequest(version=VERSION, release=RUN, digest=digest, n=1000, seed=0, batch=1000)
    told = list(stub.Draw(request))
    assert [one.n for one in told] == [819, 181]  # 2^20 // (5 * 16 * 16) = 819
    assert [one.HasField("shape") for one in told] == [True, False]


@pytest.mark.parametrize("name", ["", "tiny", "../tiny-1", "/etc", "tiny-1/../tiny-1", "tiny-1\n", "x" * 400])
def test_a_release_that_is_not_there_is_told_with_what_is(door: HubDoor, name: str) -> None:
    with pytest.raises(ReleaseError, match="served are: tiny-1"):
        door.describe(name)


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"n": 0}, "INVALID_ARGUMENT", "n must be at least 1, got 0"),
        ({"n": -5}, "INVALID_ARGUMENT", "n must be at least 1, got -5"),
        ({"n": 10_000_000}, "RESOURCE_EXHAUSTED", "at most 1000 pairs in a draw, 10000000"),
        ({"n": 2**63 - 1}, "RESOURCE_EXHAUSTED", "at most 1000"),
        ({"seed": -1}, "INVALID_ARGUMENT", "got -1 and 0"),
        ({"batch": -1}, "INVALID_ARGUMENT", "got 0 and -1"),
        ({"first": -1}, "INVALID_ARGUMENT", "first must be"),
        ({"first": 2**63 - 1}, "INVALID_ARGUMENT", "first must be"),
        ({"digest": "0" * 64}, "FAILED_PRECONDITION", "another digest"),
        ({"release": "other"}, "NOT_FOUND", "served are: tiny-1"),
        ({"version": VERSION + 1}, "FAILED_PRECONDITION", "version 2 of the collection protocol"),
        ({"version": 0}, "FAILED_PRECONDITION", "version 0"),
    ],
)
def test_a_draw_that_cannot_be_is_told_why(
    stub: CollectionStub, door: HubDoor, changes: dict, status: str, said: str
) -> None:
    fields = {"version": VERSION, "release": RUN, "digest": door.describe(RUN).release.digest, "n": 1}
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Draw(words.DrawRequest(**fields | changes)))
    told = caught.value
    assert isinstance(told, grpc.Call)
    assert told.code() is getattr(grpc.StatusCode, status)
    assert said in (told.details() or "")


@pytest.mark.parametrize(
    ("changes", "status", "said"),
    [
        ({"file": "nothing"}, "NOT_FOUND", "no such file"),
        ({"file": "../study.toml"}, "NOT_FOUND", "no such file"),
        ({"file": "SHA256SUMS"}, "NOT_FOUND", "no such file"),
        ({"file": "../../../release.key"}, "NOT_FOUND", "no such file"),
        ({"offset": -1}, "OUT_OF_RANGE", "offset must be 0 to SIZE, got -1"),
        ({"offset": 1 << 20}, "OUT_OF_RANGE", "offset must be 0 to SIZE, got 1048576"),
        ({"offset": 2**62}, "OUT_OF_RANGE", "offset must be"),
        ({"digest": ""}, "FAILED_PRECONDITION", "another digest"),
    ],
)
def test_a_fetch_that_cannot_be_is_told_why(
    stub: CollectionStub, door: HubDoor, hub: HubFolder, changes: dict, status: str, said: str
) -> None:
    digest = door.describe(RUN).release.digest
    size = (hub.runs / RUN / "release" / "LICENSE").stat().st_size
    fields = {"version": VERSION, "release": RUN, "digest": digest, "file": "LICENSE"}
    with pytest.raises(grpc.RpcError) as caught:
        list(stub.Fetch(words.FetchRequest(**fields | changes)))
    told = caught.value
    assert isinstance(told, grpc.Call)
    assert told.code() is getattr(grpc.StatusCode, status)
    assert said.replace("SIZE", str(size)) in (told.details() or "")


def test_an_offset_gives_the_rest_and_the_end_gives_nothing(
    stub: CollectionStub, door: HubDoor, hub: HubFolder
) -> None:
    whole = (hub.runs / RUN / "release" / "LICENSE").read_bytes()
    fields = {"version": VERSION, "release": RUN, "digest": door.describe(RUN).release.digest}
    for offset in (0, 1, 5000, len(whole)):
        request = words.FetchRequest(file="LICENSE", offset=offset, **fields)
        assert b"".join(chunk.data for chunk in stub.Fetch(request)) == whole[offset:]


def test_the_health_service_answers_without_a_token_and_is_not_watched(
    served: ServingHub, kit: CollectorKit, hub: HubFolder
) -> None:
    check_serving(hub)
    address = served.address.replace("127.0.0.1", "localhost")
    with grpc.secure_channel(address, grpc.ssl_channel_credentials(kit.authority)) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        for service in ("", SERVICE):
            told = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            assert told.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError, match="UNIMPLEMENTED"):
            list(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10))


def test_nobody_serves_where_nobody_does(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="nobody serves at"):
        check_serving(make_hub(tmp_path / "hub", settings_of()))


def test_a_port_that_is_taken_is_told(served: ServingHub, hub: HubFolder) -> None:
    del served
    with pytest.raises(StateError, match="cannot listen on"), serving(hub):
        pytest.fail("two servers at one port")


def test_a_second_release_appears_and_a_spoilt_one_vanishes(tmp_path: Path) -> None:
    own = hub_with_release(tmp_path, **LIMITS)
    kit = kit_of(own)
    with serving(own, grace_s=0), door_of(kit) as door:
        assert [one.name for one in door.releases()] == [RUN]
        second = add_release(own, "tiny-2")
        wait_for(door, [RUN, "tiny-2"])
        card = second / "docs" / "README.md"
        card.write_bytes(card.read_bytes().replace(b"epsilon", b"epsilom", 1))
        wait_for(door, [RUN])
        with pytest.raises(ReleaseError, match="no such release"):
            RemotePairs(door, "tiny-2", n=1, seed=0)


def wait_for(door: HubDoor, names: list[str]) -> None:
    end = datetime.now(UTC) + timedelta(seconds=10)
    while (found := [one.name for one in door.releases()]) != names:
        assert datetime.now(UTC) < end, found
