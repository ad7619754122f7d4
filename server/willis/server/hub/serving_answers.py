"""The answers of ``willis hub serve``: who asks, whether it may, and what it gets."""

import math
import os
from collections.abc import Callable, Iterator

import grpc

from willis.server.hub.collectors import GuestList, Invitation, certificate_digest, token_digest
from willis.server.hub.serving_draws import DrawingRoom, RoomClosed
from willis.server.hub.serving_limits import Limits, StallWatch
from willis.server.hub.serving_refusal import Refused, answered, busy, invalid, streamed
from willis.server.hub.serving_releases import ServedRelease, Shelf
from willis.server.hub.settings import CollectionSettings
from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.collection_pb2_grpc import CollectionServicer
from willis.shared.collection.refusal import VERSION

_CHUNK_BYTES = 256 << 10
_MESSAGE_BYTES = 1 << 20
_MOST_MESSAGE_BYTES = 60 << 20  # a client takes 64 MiB
_MOST = 2**63 - 1
_PROOF = "authorization"
_BEARER = "Bearer "
_MOST_TOKEN = 256


class CollectionAnswers(CollectionServicer):
    """Answers calls; every fault becomes a status and a sentence."""

    def __init__(
        self,
        settings: CollectionSettings,
        *,
        guests: GuestList,
        shelf: Shelf,
        draws: DrawingRoom,
        limits: Limits,
        stalls: StallWatch,
    ) -> None:
        self._settings, self._guests, self._shelf = settings, guests, shelf
        self._draws, self._limits, self._stalls = draws, limits, stalls

    def List(self, request: words.ListRequest, context: grpc.ServicerContext) -> words.Releases:
        """Tell what is served."""

        def answer(request: words.ListRequest) -> words.Releases:
            self._caller(context, request.version)
            lines = [one.description.release for one in self._shelf.all()]
            return words.Releases(version=VERSION, releases=lines)

        return answered(context, answer, request)

    def Describe(self, request: words.DescribeRequest, context: grpc.ServicerContext) -> words.Description:
        """Tell all of one release but its files."""

        def answer(request: words.DescribeRequest) -> words.Description:
            self._caller(context, request.version)
            told = words.Description(version=VERSION)
            told.MergeFrom(self._shelf.find(request.release).description)
            return told

        return answered(context, answer, request)

    def Fetch(self, request: words.FetchRequest, context: grpc.ServicerContext) -> Iterator[words.Chunk]:
        """Send a file from a byte on."""

        def answer(request: words.FetchRequest) -> Iterator[words.Chunk]:
            caller = self._caller(context, request.version)
            release = self._shelf.find(request.release, digest=request.digest)
            with self._limits.stream(caller.name):
                yield from self._sent(context, caller, self._chunks(release, request))

        return streamed(context, answer, request)

    def Draw(self, request: words.DrawRequest, context: grpc.ServicerContext) -> Iterator[words.Pairs]:
        """Send pairs."""

        def answer(request: words.DrawRequest) -> Iterator[words.Pairs]:
            caller = self._caller(context, request.version)
            release = self._shelf.find(request.release, digest=request.digest)
            batch = self._checked_batch(release, request)
            with self._limits.stream(caller.name):
                yield from self._sent(context, caller, self._pairs(release, request, batch))

        return streamed(context, answer, request)

    def _caller(self, context: grpc.ServicerContext, version: int) -> Invitation:
        """Return who asks, counted; nobody learns anything before.

        Raises:
            Refused: It is nobody, its invitation has ended, it asks too often, or in another version.
        """
        told = context.auth_context()
        certificates = [pem for pem in told.get("x509_pem_cert", ()) if isinstance(pem, bytes)]
        if certificates:
            found = self._guests.find("certificate", certificate_digest(certificates[0]))
        else:
            found = self._guests.find("token", token_digest(_token(context)))
        if found is None:
            raise Refused(
                grpc.StatusCode.UNAUTHENTICATED,
                "no invitation, or one that has ended; ask the hub's operator for another kit",
            )
        self._limits.count_call(found.name)
        if version != VERSION:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"version {version} of the collection protocol was asked for, this hub speaks {VERSION}",
            )
        return found

    def _sent(
        self,
        context: grpc.ServicerContext,
        caller: Invitation,
        messages: Iterator[words.Chunk] | Iterator[words.Pairs],
    ) -> Iterator:
        """Yield messages for as long as the caller takes them and is invited."""
        for message in messages:
            if not self._guests.stands(caller):
                raise Refused(grpc.StatusCode.UNAUTHENTICATED, "the invitation was taken back")
            cancel: Callable[[], object] = getattr(context, "cancel")  # noqa: B009 - not in the stubs
            with self._stalls.handed_over(cancel):
                yield message

    def _chunks(self, release: ServedRelease, request: words.FetchRequest) -> Iterator[words.Chunk]:
        if request.file not in release.files:
            raise Refused(grpc.StatusCode.NOT_FOUND, "the release names no such file; describe it")
        size = release.files[request.file]
        if not 0 <= request.offset <= size:
            raise Refused(grpc.StatusCode.OUT_OF_RANGE, f"offset must be 0 to {size}, got {request.offset}")
        # The name is one of the verified list by now, and no link was among them.
        handle = os.open(release.folder / request.file, os.O_RDONLY | os.O_NOFOLLOW)
        with open(handle, "rb") as file:
            file.seek(request.offset)
            left = min(size - request.offset, self._settings.most_bytes)
            while left > 0 and (data := file.read(min(_CHUNK_BYTES, left))):
                left -= len(data)
                yield words.Chunk(data=data)

    def _checked_batch(self, release: ServedRelease, request: words.DrawRequest) -> int:
        """Return the pairs of one message.

        Raises:
            Refused: The numbers do not fit, or are beyond the limits.
        """
        pair = 4 * math.prod(release.image_shape) + math.prod(release.image_shape[1:])
        if request.n < 1:
            raise invalid(f"n must be at least 1, got {request.n}")
        if request.seed < 0 or request.batch < 0:
            raise invalid(f"seed and batch must be at least 0, got {request.seed} and {request.batch}")
        if not 0 <= request.first <= _MOST - request.n:
            raise invalid(f"first must be 0 to 2^63 - 1 - n, got {request.first}")
        most = min(self._settings.most_pairs, self._settings.most_bytes // pair)
        if request.n > most:
            raise Refused(
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                f"at most {most} pairs in a draw, {request.n} were asked for; draw in parts, with another "
                "first each, or fetch the release",
            )
        if pair > _MOST_MESSAGE_BYTES:
            raise invalid(f"one pair has {pair} bytes, too many for a message; fetch the release instead")
        return max(1, min(request.batch or request.n, _MESSAGE_BYTES // pair))

    def _pairs(self, release: ServedRelease, request: words.DrawRequest, batch: int) -> Iterator[words.Pairs]:
        stream = self._draws.begin(release, end=request.first + request.n, seed=request.seed)
        for done in range(0, request.n, batch):
            first, n = request.first + done, min(batch, request.n - done)
            try:
                images, labels = stream.take(first=first, n=n)
            except RoomClosed as fault:
                raise busy("the hub is stopping", retry_s=1.0) from fault
            yield words.Pairs(
                shape=release.description.shape if done == 0 else None,
                first=first,
                n=n,
                images=images.astype("<f4", copy=False).tobytes(),
                labels=labels.tobytes(),
            )


def _token(context: grpc.ServicerContext) -> str:
    """Return the bearer token of a call; an empty one, which nobody has, where there is none."""
    told = [value for key, value in context.invocation_metadata() or () if key == _PROOF]
    if len(told) != 1 or not isinstance(told[0], str) or not told[0].startswith(_BEARER):
        return ""
    token = told[0].removeprefix(_BEARER)
    return token if len(token) <= _MOST_TOKEN else ""
