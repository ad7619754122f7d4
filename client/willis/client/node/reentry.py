"""A node that was killed is still on the hub's list: it says that it left, and is let in again at once.

Flower's SuperLink refuses a node that it believes online, and believes so for about a minute after its death.
"""

import logging
import time
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import load_ssh_private_key
from flwr.proto.fleet_pb2 import DeactivateNodeRequest
from flwr.supercore.interceptors.http.runtime_version import RuntimeVersionHttpInterceptor
from flwr.supernode.fleet_http_client import FleetHttpClient
from flwr.supernode.node_auth_http_interceptor import NodeAuthHttpInterceptor

from willis.client.node.keys import KEY_FILE
from willis.client.site import SiteSettings
from willis.shared.errors import StateError
from willis.shared.whole_file import write_whole

logger = logging.getLogger(__name__)

NUMBER_FILE = "node.number"
NOTICE_S = 5.0  # until the coordinator has asked again, and is told that what the dead node had is lost


def remember(state: Path, number: int) -> None:
    """Keep in the site's state the number that the hub gave the node; it stays the same for a key."""
    path = state / NUMBER_FILE
    if not path.exists() or path.read_text(encoding="ascii") != str(number):
        write_whole(path, str(number).encode("ascii"), private=True)


def leave_if_there(settings: SiteSettings, folder: Path) -> bool:
    """Tell the hub that an earlier process of this node is gone; return whether the hub believed it there.

    A hub that cannot be reached, or that knows the node as offline, changes nothing: Flower starts as ever.

    Args:
        settings: The site's.
        folder: Where the node's key is.

    Raises:
        StateError: The key is no key on an elliptic curve.
    """
    path = settings.state / NUMBER_FILE
    if settings.hub is None or not path.exists():
        return False
    number = int(path.read_text(encoding="ascii"))
    try:
        with _client(settings, folder) as client:
            client.DeactivateNode(DeactivateNodeRequest(node_id=number))
    except httpx.HTTPError as fault:
        logger.info("the hub does not have this node as online: %s", type(fault).__name__)
        return False
    time.sleep(NOTICE_S)
    return True


def _client(settings: SiteSettings, folder: Path) -> Any:
    assert settings.hub is not None
    key = load_ssh_private_key((folder / KEY_FILE).read_bytes(), password=None)
    if not isinstance(key, EllipticCurvePrivateKey):
        raise StateError(f"{folder / KEY_FILE} is no key on an elliptic curve; `willis site init` makes one")
    return FleetHttpClient.from_server_address(
        settings.hub.address,
        False,
        settings.hub.ca.read_bytes(),
        interceptors=[
            RuntimeVersionHttpInterceptor(component_name="SuperNode"),
            NodeAuthHttpInterceptor(key, key.public_key()),
        ],
    )
