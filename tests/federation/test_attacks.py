"""Attacks on the hub's one port, with Flower's own client and with a site's own valid key: all closed."""

import ssl
from collections.abc import Iterator
from datetime import timedelta

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import (
    ActivateNodeRequest,
    PullMessagesRequest,
    RegisterNodeFleetRequest,
    UnregisterNodeFleetRequest,
)
from flwr.proto.node_pb2 import Node
from flwr.supercore.date import now
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supercore.primitives.asymmetric import public_key_to_bytes
from flwr.supernode import node_auth_http_interceptor as signing
from flwr.supernode.fleet_http_client import FleetHttpClient
from living_federation import Federation

from willis.client.node import reentry
from willis.client.site import read_site
from willis.server.hub.control import list_nodes, list_runs
from willis.server.hub.sites import registered_sites

pytestmark = [pytest.mark.federation, pytest.mark.timeout(600)]

CONTROL = ("list-runs", "start-run", "stop-run", "register-node", "list-nodes", "stream-logs")
RUNTIME = ("acquire-task", "pull-task-input", "pull-messages", "pull-object", "get-nodes")
DISGUISES = ("/v1/", "/v1/fleet/../", "/v1/fleet/%2e%2e/", "//v1/", "/v1/fleet/..%2f")


@pytest.fixture(scope="module")
def federation(tmp_path_factory, tiny_study_file_in, phantom_cohort_in) -> Iterator[Federation]:
    """A hub that knows two sites, neither of which runs: the attacker holds the key of the first."""
    folder = tmp_path_factory.mktemp("attacks")
    study, table = tiny_study_file_in(folder), phantom_cohort_in(folder)
    with Federation(folder / "all", study, table, running=()).alive() as one:
        yield one


def key_of(federation: Federation, site: str) -> ec.EllipticCurvePrivateKey:
    key = load_ssh_private_key((federation.sites[site] / "node.key").read_bytes(), password=None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    return key


def client_of(federation: Federation, key: ec.EllipticCurvePrivateKey, *, ca: bytes | None = None):
    """Return Flower's client of a node; it is sent as a node would send."""
    return FleetHttpClient.from_server_address(
        federation.hub.settings.address,
        False,
        ca or federation.hub.authority[1].read_bytes(),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            signing.NodeAuthHttpInterceptor(key, key.public_key()),
        ],
    )


def activate(client: FleetHttpClient, key: ec.EllipticCurvePrivateKey) -> int:
    asked = ActivateNodeRequest(public_key=public_key_to_bytes(key.public_key()), heartbeat_interval=30)
    return client.ActivateNode(asked).node_id


def node_of(federation: Federation, site: str) -> int:
    return int(registered_sites(federation.hub)[site].node)


def nobody_online(federation: Federation) -> bool:
    return "online" not in list_nodes(federation.hub).values()


def refused(call) -> int:
    with pytest.raises(httpx.HTTPStatusError) as fault:
        call()
    return fault.value.response.status_code


def test_a_key_that_was_not_registered_is_refused(federation):
    key = ec.generate_private_key(ec.SECP384R1())
    with client_of(federation, key) as client:
        assert refused(lambda: activate(client, key)) == 412  # no such node
    assert nobody_online(federation)


@pytest.mark.parametrize("minutes", [-10, 10])
def test_a_clock_that_is_off_is_refused(minutes, federation, monkeypatch):
    honest, key = now, key_of(federation, "site-a")
    monkeypatch.setattr(f"{signing.__name__}.now", lambda: honest() + timedelta(minutes=minutes))
    with client_of(federation, key) as client:
        assert refused(lambda: activate(client, key)) == 401
    assert nobody_online(federation)


def test_a_hub_of_another_authority_is_not_spoken_to(federation, tmp_path):
    from willis.server.hub.certificates import make_authority

    make_authority(tmp_path / "ca.key", tmp_path / "ca.crt", host="localhost")
    key = key_of(federation, "site-a")
    with (
        client_of(federation, key, ca=(tmp_path / "ca.crt").read_bytes()) as client,
        pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        activate(client, key)
    assert nobody_online(federation)


def test_plaintext_is_refused(federation):
    told = httpx.post(f"http://{federation.hub.settings.address}/v1/fleet/activate-node", trust_env=False)
    assert told.status_code == 400
    assert b"HTTPS port" in told.content


@pytest.mark.parametrize("path", [f"control/{it}" for it in CONTROL] + [f"runtime/{it}" for it in RUNTIME])
@pytest.mark.parametrize(
    "disguise", ["/v1/", "/v1/fleet/../", "/v1/fleet/%2e%2e/", "//v1/", "/v1/fleet/..%2f"]
)
def test_no_way_to_the_operators_and_the_executors_calls(path, disguise, federation):
    context = ssl.create_default_context(cafile=str(federation.hub.authority[1]))
    with httpx.Client(verify=context, trust_env=False) as client:
        url = httpx.URL(f"https://{federation.hub.settings.address}").copy_with(
            raw_path=f"{disguise}{path}".encode()
        )
        told = client.post(url, headers={"content-type": "application/x-protobuf"})
    assert told.status_code in (403, 404)
    assert list_runs(federation.hub) == {} if path == CONTROL[1] else True


def test_a_node_that_was_killed_is_let_in_again_at_once(federation, monkeypatch):
    place, key = federation.sites["site-b"], key_of(federation, "site-b")
    settings = read_site(place / "site.toml")
    monkeypatch.setattr(reentry, "NOTICE_S", 0.0)
    assert not reentry.leave_if_there(settings, place), "it never was there"
    with client_of(federation, key) as client:
        number = activate(client, key)
        reentry.remember(settings.state, number)
        assert refused(lambda: activate(client, key)) == 412, "the hub believes that it is online"
        assert reentry.leave_if_there(settings, place)
        assert not reentry.leave_if_there(settings, place), "it has left already"
        assert activate(client, key) == number
        assert reentry.leave_if_there(settings, place)
    assert nobody_online(federation)


def test_without_a_hub_a_node_starts_as_ever(federation):
    settings = read_site(federation.sites["site-b"] / "site.toml")
    assert settings.hub is not None
    nowhere = settings.hub.model_copy(update={"address": "localhost:1"})
    reentry.remember(settings.state, 7)
    gone = settings.model_copy(update={"hub": nowhere})
    assert not reentry.leave_if_there(gone, federation.sites["site-b"])


def test_with_its_own_key_a_site_reaches_no_other(federation):
    key = key_of(federation, "site-a")
    own, other = (node_of(federation, site) for site in ("site-a", "site-b"))
    with client_of(federation, key) as client:
        fresh = ec.generate_private_key(ec.SECP384R1())
        register = RegisterNodeFleetRequest(public_key=public_key_to_bytes(fresh.public_key()))
        assert refused(lambda: client.RegisterNode(register)) == 403
        assert refused(lambda: client.UnregisterNode(UnregisterNodeFleetRequest(node_id=other))) == 403
        theirs = PullMessagesRequest(node=Node(node_id=other))
        assert refused(lambda: client.PullMessages(theirs)) == 401
        assert activate(client, key) == own  # the same client, with what is its own, is let in
        assert not client.PullMessages(PullMessagesRequest(node=Node(node_id=own))).messages_list
    assert set(list_nodes(federation.hub)) == {str(own), str(other)}
