"""The connection to a hub: TLS to its own authority, the proof of who asks, and calls made again that failed.

A call that breaks off (a cut line, a hub that is started again, a limit that passes) is made again after a
pause that doubles; as soon as something new has come, counting starts anew.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import grpc

from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.collection_pb2_grpc import CollectionStub
from willis.shared.collection.kit import CollectorKit
from willis.shared.collection.refusal import VERSION, error_of, retry_after_s
from willis.shared.errors import ReleaseError, Unreachable

MOST_MESSAGE_BYTES = 64 << 20
_ANSWER_S = 30.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.25, 8.0
_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", MOST_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.initial_reconnect_backoff_ms", 250),
    ("grpc.min_reconnect_backoff_ms", 250),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),
]
Answer = TypeVar("Answer")


@dataclass(frozen=True)
class Patience:
    """How often a call is made again.

    Attributes:
        attempts: In a row without anything new, 1 or more.
        busy_s: Longest wait in all for a hub that says that it is busy.
    """

    attempts: int = 6
    busy_s: float = 600.0


class HubDoor:
    """A hub, as a collector reaches it; a context manager that closes the connection.

    Args:
        kit: Where it is, and who asks.
        patience: With a hub that does not answer.
        wait: Sleeps for some seconds.
    """

    def __init__(
        self,
        kit: CollectorKit,
        *,
        patience: Patience | None = None,
        wait: Callable[[float], None] = time.sleep,
    ) -> None:
        self.kit = kit
        self._patience, self._wait = patience or Patience(), wait
        certificate, key = kit.certificate or (None, None)
        trusted = grpc.ssl_channel_credentials(kit.authority, key, certificate)
        self._channel = grpc.secure_channel(kit.settings.address, trusted, options=_OPTIONS)
        self._stub = CollectionStub(self._channel)
        # Over this channel alone: it has no form without TLS.
        self._proof = () if kit.token is None else (("authorization", f"Bearer {kit.token}"),)

    def __enter__(self) -> "HubDoor":
        """Return the door; nothing is sent before the first call."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the connection."""
        self._channel.close()

    def releases(self) -> list[words.ReleaseLine]:
        """Return what the hub serves.

        Raises:
            CollectionRefused: Who asks is not invited, or asks too often.
            Unreachable: The hub does not answer, or is another one.
            ReleaseError: It speaks another version.
        """
        return list(self._once(self._stub.List, words.ListRequest(version=VERSION)).releases)

    def describe(self, release: str) -> words.Description:
        """Return what the hub says of a release; see ``description.checked``.

        Raises:
            ReleaseError: There is no such release.
            WillisError: As :meth:`releases`.
        """
        return self._once(self._stub.Describe, words.DescribeRequest(version=VERSION, release=release))

    def fetch(self, ask: Callable[[], words.FetchRequest]) -> Iterator[words.Chunk]:
        """Yield the chunks of a file; whenever the stream breaks, what ``ask`` says then is asked.

        Raises:
            WillisError: As :meth:`releases`.
        """
        yield from self._streamed(lambda: self._stub.Fetch(ask(), metadata=self._proof))

    def draw(self, ask: Callable[[], words.DrawRequest]) -> Iterator[words.Pairs]:
        """Yield messages of pairs; whenever the stream breaks, what ``ask`` says then is asked.

        Raises:
            WillisError: As :meth:`releases`.
        """
        yield from self._streamed(lambda: self._stub.Draw(ask(), metadata=self._proof))

    def _once(self, call: Callable[..., Answer], request: object) -> Answer:
        pauses = _Pauses(self._patience, self._wait)
        while True:
            try:
                answer = call(request, metadata=self._proof, timeout=_ANSWER_S)
            except grpc.RpcError as fault:
                pauses.after(fault, self.kit)
            else:
                _check_version(answer, self.kit)
                return answer

    def _streamed(self, begin: Callable[[], Iterator[Answer]]) -> Iterator[Answer]:
        pauses = _Pauses(self._patience, self._wait)
        while True:
            stream = begin()
            try:
                for message in stream:
                    pauses.reset()
                    yield message
                return
            except grpc.RpcError as fault:
                pauses.after(fault, self.kit)
            finally:
                if isinstance(stream, grpc.Call):
                    stream.cancel()


class _Pauses:
    """Counts what failed in a row and waits; raises where to go on is useless."""

    def __init__(self, patience: Patience, wait: Callable[[float], None]) -> None:
        self._patience, self._wait = patience, wait
        self.reset()

    def reset(self) -> None:
        self._failed, self._busy_s, self._pause_s = 0, 0.0, _FIRST_PAUSE_S

    def after(self, fault: grpc.RpcError, kit: CollectorKit) -> None:
        told = retry_after_s(fault)
        error = error_of(fault, address=kit.settings.address, token=kit.token is not None)
        if told is None:
            raise error from fault
        pause = max(told, self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
        if isinstance(error, Unreachable):
            self._failed += 1
        else:
            self._busy_s += pause
        if self._failed >= self._patience.attempts or self._busy_s > self._patience.busy_s:
            raise error from fault
        self._wait(pause)


def _check_version(answer: object, kit: CollectorKit) -> None:
    told = getattr(answer, "version", None)
    if told != VERSION:
        raise ReleaseError(
            f"the hub at {kit.settings.address} speaks version {told} of the collection protocol, this "
            f"Willis {VERSION}; install the Willis of the hub"
        )
