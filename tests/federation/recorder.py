"""A door before the hub's that writes down what goes through it, both ways, out of its TLS."""

import asyncio
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from living_federation import free_port

from willis.server.hub.folder import HubFolder


class Recorder:
    """Listens on the loopback with the hub's own certificate, which the test holds.

    Attributes:
        port: Where it listens.
        sent: What went to the hub.
        received: What came from it.
    """

    def __init__(self) -> None:
        self.port, self.sent, self.received = free_port(), bytearray(), bytearray()

    @contextmanager
    def before(self, hub: HubFolder) -> Iterator["Recorder"]:
        """Hand on to a hub for as long as the block lasts."""
        key, certificate = hub.server
        door = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        door.load_cert_chain(certificate, key)
        onward = ssl.create_default_context(cafile=str(hub.authority[1]))

        async def carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter, kept: bytearray) -> None:
            with suppress(ConnectionError, ssl.SSLError):
                while data := await source.read(65536):
                    kept.extend(data)
                    sink.write(data)
                    await sink.drain()
            sink.close()

        async def serve(here: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
            try:
                there, on = await asyncio.open_connection(
                    "127.0.0.1", hub.settings.port, ssl=onward, server_hostname="localhost"
                )
            except OSError:  # the hub is not up yet
                back.close()
                return
            await asyncio.gather(carry(here, on, self.sent), carry(there, back, self.received))

        loop = asyncio.new_event_loop()
        server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", self.port, ssl=door))
        hand = threading.Thread(target=loop.run_forever, daemon=True)
        hand.start()
        try:
            yield self
        finally:
            loop.call_soon_threadsafe(server.close)
            loop.call_soon_threadsafe(loop.stop)
            hand.join(10)
