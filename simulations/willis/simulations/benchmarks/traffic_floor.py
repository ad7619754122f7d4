"""The floor under a round's traffic: the same payload through bare TLS sockets, nothing else."""

import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from willis.simulations.benchmarks.traffic_relay import Relay

_CHUNK = 1024 * 1024
_PATIENCE_S = 300.0


@dataclass(frozen=True)
class Carried:
    """What one round carried.

    Attributes:
        up: Bytes from the sites, TLS included.
        down: Bytes to the sites.
        seconds: From the first byte's start to the last byte's arrival.
    """

    up: int
    down: int
    seconds: float


def raw_round(*, sites: int, down: int, up: int, certificate: tuple[Path, Path], authority: Path) -> Carried:
    """Carry ``down`` bytes to every site and ``up`` bytes back, all sites at once, through a counting relay.

    Args:
        sites: Connections.
        down: Bytes to each.
        up: Bytes from each.
        certificate: The server's certificate and key.
        authority: Certificate of the authority that the sites trust.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    with socket.create_server(("127.0.0.1", 0)) as door:
        door.settimeout(_PATIENCE_S)
        with Relay(door.getsockname()[1]) as relay, ThreadPoolExecutor(2 * sites) as pool:
            begun = time.time()
            served = [pool.submit(_serve, door, context, down=down, up=up) for _ in range(sites)]
            asked = [pool.submit(_ask, relay.port, authority, down=down, up=up) for _ in range(sites)]
            for one in (*served, *asked):
                one.result(_PATIENCE_S)
            ended = time.time()
        # The relay has ended by now, so nothing is left uncounted.
        return Carried(
            up=relay.up.between(begun, time.time()),
            down=relay.down.between(begun, time.time()),
            seconds=ended - begun,
        )


_one_at_a_time = threading.Lock()


def _serve(door: socket.socket, context: ssl.SSLContext, *, down: int, up: int) -> None:
    with _one_at_a_time:
        plain, _ = door.accept()
    with context.wrap_socket(plain, server_side=True) as line:
        line.settimeout(_PATIENCE_S)
        _send(line, down)
        _receive(line, up)
        line.sendall(b"!")


def _ask(port: int, authority: Path, *, down: int, up: int) -> None:
    context = ssl.create_default_context(cafile=str(authority))
    with (
        socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE_S) as plain,
        context.wrap_socket(plain, server_hostname="localhost") as line,
    ):
        _receive(line, down)
        _send(line, up)
        _receive(line, 1)


def _send(line: ssl.SSLSocket, size: int) -> None:
    whole = memoryview(bytes(_CHUNK))
    while size > 0:
        part = whole[: min(size, _CHUNK)]
        line.sendall(part)
        size -= len(part)


def _receive(line: ssl.SSLSocket, size: int) -> None:
    while size > 0:
        part = line.recv(min(size, _CHUNK))
        if not part:
            raise ConnectionError(f"the line ended with {size} bytes still to come")
        size -= len(part)
