"""Who may collect: a token or a certificate that the hub gave, while it stands; and which hub is asked."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from harness.made_certificates import MadeAuthority
from harness.serving_trial import RUN, door_of, hub_with_release, kit_of, settings_of, until_invited

from willis.server.hub.certificates import make_client_certificate
from willis.server.hub.collectors import uninvite
from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.serving import ServingHub, serving
from willis.shared.collection.door import HubDoor
from willis.shared.collection.fetching import fetch_release
from willis.shared.collection.kit import CollectorKit
from willis.shared.collection.refusal import CollectionRefused
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.errors import ReleaseError, Unreachable
from willis.shared.release_signature import read_public_key

LIMITS = {"calls_a_minute": 10_000}


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


def test_a_certificate_is_as_good_as_a_token(served: ServingHub, hub: HubFolder) -> None:
    kit = kit_of(hub, "by-certificate", certificate=True)
    assert kit.settings.address.rpartition(":")[2] == served.certificate_address.rpartition(":")[2]
    with door_of(kit) as door:
        until_invited(door)
        assert [one.name for one in door.releases()] == [RUN]
        uninvite(hub, "by-certificate")
    with door_of(kit) as door:
        later(door)


def later(door: HubDoor) -> None:
    """Ask until the hub has looked at its invitations again: it refuses."""
    end = datetime.now(UTC) + timedelta(seconds=5)
    while datetime.now(UTC) < end:
        try:
            door.releases()
        except CollectionRefused as caught:
            said = str(caught)
            break
    else:
        pytest.fail("it still answers")
    assert "no invitation, or one that has ended" in said


def test_a_certificate_of_another_authority_gets_nothing(
    served: ServingHub, kit: CollectorKit, tmp_path: Path
) -> None:
    made = MadeAuthority(tmp_path / "ca").sign("lab")
    pair = made.cert.read_bytes(), made.key.read_bytes()
    refused_by_tls(served, kit, pair)


def test_no_certificate_gets_nothing(served: ServingHub, kit: CollectorKit) -> None:
    refused_by_tls(served, kit, None)


def test_the_hubs_own_certificate_is_no_collectors(
    served: ServingHub, kit: CollectorKit, hub: HubFolder
) -> None:
    refused_by_tls(served, kit, (hub.server[1].read_bytes(), hub.server[0].read_bytes()))


def refused_by_tls(served: ServingHub, kit: CollectorKit, pair: tuple[bytes, bytes] | None) -> None:
    address = served.certificate_address.replace("127.0.0.1", "localhost")
    settings = kit.settings.model_copy(update={"address": address})
    other = CollectorKit(settings, kit.authority, kit.release_key, token=None, certificate=pair)
    with door_of(other) as door, pytest.raises(Unreachable, match="a certificate that it does not accept"):
        door.releases()


def test_a_valid_certificate_nobody_invited_gets_nothing(
    served: ServingHub, kit: CollectorKit, hub: HubFolder
) -> None:
    pair = make_client_certificate(hub.authority, name="lab", days=1)
    address = served.certificate_address.replace("127.0.0.1", "localhost")
    settings = kit.settings.model_copy(update={"address": address})
    with door_of(CollectorKit(settings, kit.authority, kit.release_key, certificate=pair)) as door:
        later(door)


@pytest.mark.parametrize("token", [None, "willis-wrong", "x" * 5000])
def test_a_token_nobody_has_gets_nothing(served: ServingHub, kit: CollectorKit, token: str | None) -> None:
    del served
    other = CollectorKit(kit.settings, kit.authority, kit.release_key, token=token)
    with door_of(other) as door, pytest.raises(CollectionRefused, match="no invitation"):
        door.releases()


def test_an_expired_token_gets_nothing(served: ServingHub, hub: HubFolder) -> None:
    del served
    kit = kit_of(hub, "late")
    noted = hub.collectors / "late.toml"
    past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
    lines = [line for line in noted.read_text().splitlines() if not line.startswith("until")]
    noted.write_text("\n".join([*lines, f"until = {past}"]))
    with door_of(kit) as door:
        later(door)


def test_a_token_that_was_taken_back_gets_nothing(served: ServingHub, hub: HubFolder) -> None:
    del served
    kit = kit_of(hub, "gone")
    with door_of(kit) as door:
        until_invited(door)
        uninvite(hub, "gone")
        later(door)


def test_another_hub_is_not_told_the_token(served: ServingHub, kit: CollectorKit, tmp_path: Path) -> None:
    del served
    other = make_hub(tmp_path / "other", settings_of())
    stranger = CollectorKit(kit.settings, other.authority[1].read_bytes(), kit.release_key, token=kit.token)
    with door_of(stranger) as door, pytest.raises(Unreachable, match="does not show the certificate"):
        door.releases()


def test_a_release_of_another_hubs_key_is_refused(
    served: ServingHub, kit: CollectorKit, tmp_path: Path
) -> None:
    del served
    other = make_hub(tmp_path / "other", settings_of())
    key = read_public_key(other.release_key[1])
    stranger = CollectorKit(kit.settings, kit.authority, key, token=kit.token)
    with door_of(stranger) as door:
        with pytest.raises(ReleaseError, match="another hub made it"):
            fetch_release(door, RUN, out=tmp_path / "got")
        with pytest.raises(ReleaseError, match="another hub made it"):
            RemotePairs(door, RUN, n=1, seed=0)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["other"]
