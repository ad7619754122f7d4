"""A listening socket that no single peer can hold up or fill: time-outs, a handshake apart, bounded PDUs."""

import socket
import ssl
import threading
from collections.abc import Callable
from socketserver import BaseServer
from typing import Any, cast

from pynetdicom.events import Event
from pynetdicom.transport import ThreadedAssociationServer

_PATIENCE_S = 30.0  # for a peer that is in the middle of something
_WAITING_PER_ASSOCIATION = 4
_HANDSHAKE = "handshake"
MOST_PDU_BYTES = 128 * 1024
_MOST_REQUEST_BYTES = 1024 * 1024  # of a PDU that is not data: a request with all contexts has some 10 kB


class GuardedServer(ThreadedAssociationServer):
    """pynetdicom's server, whose TLS handshakes do not stop others from connecting.

    pynetdicom shakes hands in the loop that accepts, without a time-out: one silent peer would end the
    service. Here each connection does so in its own thread, and only so many wait at a time.
    """

    daemon_threads = True  # a handshake that hangs does not hold up the end

    def __init__(
        self, *args: Any, tls: ssl.SSLContext | None, on_fault: Callable[[str], None], **kwargs: Any
    ) -> None:
        self._on_fault = on_fault
        self._tls = tls
        super().__init__(*args, **kwargs)

    def shutdown(self) -> None:
        """Take no more connections; those that are open go on."""
        BaseServer.shutdown(self)
        self.server_close()

    def get_request(self) -> tuple[socket.socket, Any]:
        """Take a connection; its handshake is left to its own thread."""
        door, address = cast(socket.socket, self.socket).accept()
        door.settimeout(_PATIENCE_S)
        return door, address

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse a connection where too many wait already."""
        waiting = sum(thread.name.startswith(_HANDSHAKE) for thread in threading.enumerate())
        if waiting + len(self.active_associations) < _WAITING_PER_ASSOCIATION * self.ae.maximum_associations:
            return True
        self._on_fault("too-many-connections")
        return False

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Shake hands where TLS is asked for, then serve the association."""
        threading.current_thread().name = f"{_HANDSHAKE}-{id(request)}"
        try:
            door = request if self._tls is None else self._tls.wrap_socket(request, server_side=True)
        except OSError:  # ssl.SSLError too: plaintext, no certificate, another authority, silence
            self._on_fault("no-tls")
            self.shutdown_request(request)
            return
        super().process_request_thread(door, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Count a fault; socketserver would print its text."""
        self._on_fault("fault")


def bound_reading(event: Event) -> None:
    """Close a connection that announces a PDU larger than is allowed: it would be held in memory.

    For ``EVT_CONN_OPEN``.
    """
    sock = cast(Any, event.assoc.dul.socket)
    read = sock.recv

    def bounded(count: int) -> bytearray:
        if count > _MOST_REQUEST_BYTES:
            raise OSError("larger than is allowed")
        return read(count)

    sock.recv = bounded
