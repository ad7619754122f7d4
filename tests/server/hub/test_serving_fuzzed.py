"""A thousand requests and messages that make no sense: hub and collector stand, and say what is wrong."""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import grpc
import numpy as np
import pytest
from harness.serving_trial import RUN, door_of, hub_with_release, kit_of

from willis.server.hub.folder import HubFolder
from willis.server.hub.serving import ServingHub, serving
from willis.server.hub.serving_check import check_serving
from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.description import checked
from willis.shared.collection.door import HubDoor
from willis.shared.collection.fetching import fetch_release
from willis.shared.collection.kit import CollectorKit
from willis.shared.collection.refusal import VERSION
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.errors import ReleaseError

CASES = 250  # of each of four kinds
METHODS = ("List", "Describe", "Fetch", "Draw")
REQUESTS = (words.ListRequest, words.DescribeRequest, words.FetchRequest, words.DrawRequest)
EDGES = (-(2**63), -1, 0, 1, 2, 2**31, 2**62, 2**63 - 1)
NAMES = ("", RUN, "LICENSE", "../../x", "/", "\x00", "a" * 5000, "\N{SNOWMAN}", "models/model.pt")
SAID = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.OUT_OF_RANGE,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> HubFolder:
    return hub_with_release(tmp_path_factory.mktemp("fuzz"), calls_a_minute=100_000, most_pairs=50)


@pytest.fixture(scope="module")
def served(hub: HubFolder) -> Iterator[ServingHub]:
    with serving(hub, grace_s=0) as told:
        yield told


@pytest.fixture(scope="module")
def kit(hub: HubFolder) -> CollectorKit:
    return kit_of(hub)


@pytest.fixture
def door(served: ServingHub, kit: CollectorKit) -> Iterator[HubDoor]:
    del served
    with door_of(kit) as opened:
        yield opened


def stands(hub: HubFolder, served: ServingHub, door: HubDoor) -> None:
    """Whether the hub still answers as before and holds nothing."""
    check_serving(hub)
    assert [one.name for one in door.releases()] == [RUN]
    assert sum(len(images) for images, _ in RemotePairs(door, RUN, n=3, seed=0)) == 3
    assert served.limits.streams() == 0


def calls(channel: grpc.Channel) -> Mapping[str, Callable[..., object]]:
    """The four methods, taking bytes as they are."""
    whole = {"request_serializer": bytes, "response_deserializer": bytes}
    place = "/willis.collection.v1.Collection/"
    unary = {name: channel.unary_unary(place + name, **whole) for name in METHODS[:2]}
    return unary | {name: channel.unary_stream(place + name, **whole) for name in METHODS[2:]}


@pytest.mark.parametrize("kind", ["bytes", "fields"])
def test_requests_without_sense_leave_the_hub_standing(
    hub: HubFolder, served: ServingHub, door: HubDoor, kit: CollectorKit, kind: str
) -> None:
    dice = np.random.default_rng(7 if kind == "bytes" else 8)
    digest = door.describe(RUN).release.digest
    proof = (("authorization", f"Bearer {kit.token}"),)
    statuses: dict[grpc.StatusCode | None, int] = {}
    with grpc.secure_channel(kit.settings.address, grpc.ssl_channel_credentials(kit.authority)) as channel:
        methods = calls(channel)
        for _ in range(CASES):
            number = int(dice.integers(4))
            data = dice.bytes(int(dice.integers(0, 200))) if kind == "bytes" else made(dice, number, digest)
            try:
                answer = methods[METHODS[number]](data, metadata=proof, timeout=20)
                if number >= 2:
                    list(answer)  # pyright: ignore[reportArgumentType]
            except grpc.RpcError as fault:
                code = getattr(fault, "code", lambda: None)()
                statuses[code] = statuses.get(code, 0) + 1
    assert set(statuses) <= SAID, statuses
    assert sum(statuses.values()) > CASES // 2
    stands(hub, served, door)


def made(dice: np.random.Generator, number: int, digest: str) -> bytes:
    """Return a request of the right kind with values from the edges."""
    request = REQUESTS[number]()
    for field in request.DESCRIPTOR.fields:
        if field.name == "version":
            value = VERSION if dice.random() < 0.8 else int(dice.integers(-3, 5))
        elif field.name == "digest":
            value = digest if dice.random() < 0.8 else "0" * 64
        elif field.type == field.TYPE_STRING:
            value = str(dice.choice(NAMES)) if dice.random() < 0.6 else RUN
        else:
            value = int(dice.choice(EDGES))
            value = value if field.type == field.TYPE_INT64 else max(min(value, 2**31 - 1), -(2**31))
        setattr(request, field.name, value)
    return request.SerializeToString()


def mutated(dice: np.random.Generator, data: bytes) -> bytes:
    """Return bytes with some changed, some lost, or some added."""
    out = bytearray(data)
    for _ in range(int(dice.integers(1, 4))):
        at = int(dice.integers(0, len(out) or 1))
        change = int(dice.integers(3))
        if change == 0 and out:
            out[at % len(out)] ^= int(dice.integers(1, 256))
        elif change == 1:
            del out[at : at + int(dice.integers(1, 30))]
        else:
            out[at:at] = dice.bytes(int(dice.integers(1, 30)))
    return bytes(out)


def test_descriptions_that_were_changed_leave_the_collector_standing(
    door: HubDoor, kit: CollectorKit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice, whole = np.random.default_rng(9), door.describe(RUN).SerializeToString()
    refused = 0
    for _ in range(CASES):
        try:
            told = words.Description.FromString(mutated(dice, whole))
        except Exception:  # protobuf's own refusal, which gRPC makes an INTERNAL of
            refused += 1
            continue
        monkeypatch.setattr(door, "describe", lambda _, told=told: told)
        try:
            checked(told, name=RUN, key=kit.release_key)
        except ReleaseError:
            refused += 1
            with pytest.raises(ReleaseError):
                fetch_release(door, RUN, out=tmp_path / "got")
    assert refused > CASES // 2
    assert list(tmp_path.iterdir()) == []  # nothing was begun


def test_pairs_that_were_changed_leave_the_trainer_standing(
    door: HubDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    dice = np.random.default_rng(10)
    pairs = RemotePairs(door, RUN, n=4, seed=1, batch=4)
    asked = words.DrawRequest(version=VERSION, release=RUN, digest=pairs.described.signed.digest, n=4, seed=1)
    (message,) = list(door.draw(lambda: asked))
    whole, refused = message.SerializeToString(), 0
    for _ in range(CASES):
        try:
            told = words.Pairs.FromString(mutated(dice, whole))
        except Exception:
            refused += 1
            continue
        monkeypatch.setattr(door, "draw", lambda _, told=told: iter([told]))
        try:
            for images, labels in pairs:
                assert (images.shape, labels.shape) == ((4, 1, 16, 16), (4, 16, 16))
                assert np.abs(images).max() <= 1
                assert set(np.unique(labels)) <= {0, 1}
        except ReleaseError:
            refused += 1
    assert refused > CASES // 3
