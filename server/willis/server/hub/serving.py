"""The program behind ``willis hub serve``: TLS on two ports, one for tokens, one for client certificates."""

import logging
import shlex
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health, health_pb2

from willis.server.hub import certificates
from willis.server.hub.collectors import GuestList
from willis.server.hub.folder import HubFolder, open_hub
from willis.server.hub.serving_answers import CollectionAnswers
from willis.server.hub.serving_check import SERVICE
from willis.server.hub.serving_draws import DrawingRoom
from willis.server.hub.serving_handlers import collection_handler, health_handler
from willis.server.hub.serving_limits import Limits, StallWatch
from willis.server.hub.serving_releases import Shelf
from willis.shared.errors import StateError
from willis.shared.lock import held_alone
from willis.shared.processes import until_asked_to_stop

logger = logging.getLogger(__name__)
GRACE_S = 10.0
_SPARE_WORKERS = 8  # for short calls while every stream is taken, and to say no to more
_MOST_REQUEST_BYTES = 64 << 10
_LOOK_S = 1.0
_DAY_S = 86_400.0


@dataclass(frozen=True)
class ServingHub:
    """What serves now.

    Attributes:
        address: Of the port for tokens, ``host:port``, as this machine reaches it.
        certificate_address: Of the port for client certificates.
    """

    address: str
    certificate_address: str
    limits: Limits
    draws: DrawingRoom
    stalls: StallWatch


def serve(hub: HubFolder) -> None:
    """Serve a hub's releases until SIGTERM or SIGINT; then streams may go on for 10 seconds.

    Neither the authority's key nor the releases' is opened: whoever takes over this process signs nothing.

    Raises:
        StateError: Another process serves this hub, an address is in use, or there is no good certificate.
    """
    refusal = f"{hub.path} is served already; one `willis hub serve` holds a folder"
    with (
        held_alone(hub.path / "serve.lock", refusal),
        until_asked_to_stop() as stop,
        serving(hub) as served,
    ):
        told = time.monotonic()
        while not stop.wait(_LOOK_S):
            served.stalls.look()
            if time.monotonic() - told >= _DAY_S:
                check_certificate(hub)
                told = time.monotonic()


@contextmanager
def serving(hub: HubFolder, *, grace_s: float = GRACE_S) -> Iterator[ServingHub]:
    """Serve for as long as the block lasts.

    Args:
        grace_s: How long streams may go on after its end, seconds.

    Raises:
        StateError: An address cannot be listened on, or there is no good certificate.
    """
    settings = hub.settings.collection
    check_certificate(hub)
    limits, stalls, shelf = Limits(settings), StallWatch(settings.stall_s), Shelf(hub)
    with ExitStack() as stack:
        draws = stack.enter_context(DrawingRoom())
        workers = stack.enter_context(ThreadPoolExecutor(settings.streams + _SPARE_WORKERS))
        server = grpc.server(
            workers,
            options=_options(),
            maximum_concurrent_rpcs=2 * (settings.streams + _SPARE_WORKERS),
        )
        guests = GuestList(hub.collectors)
        answers = CollectionAnswers(
            settings, guests=guests, shelf=shelf, draws=draws, limits=limits, stalls=stalls
        )
        told = health.HealthServicer()
        server.add_generic_rpc_handlers((collection_handler(answers), health_handler(told)))
        for service in ("", SERVICE):
            told.set(service, health_pb2.HealthCheckResponse.SERVING)
        addresses = _listen(server, hub)
        server.start()
        try:
            yield ServingHub(*addresses, limits, draws, stalls)
        finally:
            told.enter_graceful_shutdown()
            server.stop(grace_s).wait()


def check_certificate(hub: HubFolder) -> None:
    """Log which command renews a certificate that ends soon; serving itself signs none.

    Raises:
        StateError: There is none, it has ended, or it is made out to another host.
    """
    days = certificates.days_left(hub.server, host=hub.settings.host)
    if days >= certificates.RENEWED_BEFORE_DAYS:
        return
    settings = open_hub(hub.path).settings  # as written: this process may listen elsewhere
    words = ("willis", "hub", "init", hub.path, "--host", settings.host, "--port", settings.port)
    more = ("--listen", settings.listen, "--inner-port", settings.inner_port)
    renewal = f"`{shlex.join(str(word) for word in (*words, *more))}` makes it anew, as does `willis hub up`"
    if not days:
        raise StateError(f"{hub.server[1]} is lost, has ended, or is of another host or key: {renewal}")
    logger.warning("%s ends in %.0f days: %s; then start serving again", hub.server[1], days, renewal)


def _listen(server: grpc.Server, hub: HubFolder) -> tuple[str, str]:
    key, certificate = (path.read_bytes() for path in hub.server)
    authority = hub.authority[1].read_bytes()
    settings, pair = hub.settings.collection, [(key, certificate)]
    tokens = grpc.ssl_server_credentials(pair)
    mutual = grpc.ssl_server_credentials(pair, root_certificates=authority, require_client_auth=True)
    for port, trusted in ((settings.port, tokens), (settings.certificate_port, mutual)):
        try:
            bound = server.add_secure_port(f"{hub.settings.listen}:{port}", trusted)
        except RuntimeError:
            bound = 0
        if bound != port:
            raise StateError(
                f"cannot listen on {hub.settings.listen}:{port}: another program does, or a "
                "port below 1024 needs CAP_NET_BIND_SERVICE; change [collection] in hub.toml"
            )
    door = hub.settings.own_door
    return f"{door}:{settings.port}", f"{door}:{settings.certificate_port}"


def _options() -> list[tuple[str, int]]:
    return [
        ("grpc.so_reuseport", 0),
        ("grpc.server_handshake_timeout_ms", 20_000),
        ("grpc.max_connection_idle_ms", 600_000),
        ("grpc.max_receive_message_length", _MOST_REQUEST_BYTES),
        ("grpc.max_metadata_size", 16 << 10),
        ("grpc.keepalive_time_ms", 60_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.max_concurrent_streams", 64),
    ]
