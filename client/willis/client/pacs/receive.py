"""Receive instances: a C-STORE and C-ECHO listener that writes what arrives into the spool."""

import io
import ssl
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack, suppress
from types import MappingProxyType
from typing import Any, Self, cast

from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.events import Event
from pynetdicom.sop_class import Verification  # pyright: ignore[reportAttributeAccessIssue]

from willis.client.pacs.accepted import CLASSES, SYNTAXES
from willis.client.pacs.arrivals import Arrivals, Completed
from willis.client.pacs.listener import MOST_PDU_BYTES, GuardedServer, bound_reading
from willis.client.pacs.settings import PacsSettings
from willis.client.pacs.spool import Arrived, Spool, Verdict
from willis.shared.errors import StateError
from willis.shared.lock import held_alone

STATUS = MappingProxyType(
    {
        Verdict.NEW: 0x0000,
        Verdict.AGAIN: 0x0000,
        Verdict.NO_ROOM: 0xA700,
        Verdict.NOT_WRITTEN: 0xA701,
        Verdict.OTHER_BYTES: 0xA900,
        Verdict.MISMATCH: 0xA901,
        Verdict.NOT_ASKED: 0xA902,
        Verdict.CLASS: 0x0122,
        Verdict.DAMAGED: 0xC000,
    }
)
LOCK_FILE = "receive.lock"
_TIMEOUTS_S = (30.0, 60.0, 60.0)  # of the association's opening, of a message, of silence on the line
_GRACE_S = 5.0
_CALLING_UNKNOWN = (0x01, 0x01, 0x03)  # rejected for good, by the service user, calling AE title not known


class Receiver:
    """Listens for as long as the ``with`` block lasts.

    Args:
        settings: The site's.
        on_complete: Called with each study that came to rest.
        counts: Where verdicts and refused connections are counted by name.

    Raises:
        StateError: On entering: another process listens for the spool, it cannot be made, a TLS file cannot
            be read, nobody may call, or the port is taken.
    """

    def __init__(
        self,
        settings: PacsSettings,
        *,
        on_complete: Callable[[Completed], None] | None = None,
        counts: Counter[str] | None = None,
    ) -> None:
        self.counts: Counter[str] = Counter() if counts is None else counts
        self._settings = settings
        self._on_complete = on_complete
        self._lock = threading.Lock()
        self._sizes: dict[int, int] = {}
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        settings = self._settings
        if not settings.callers:
            raise StateError("[pacs] has no callers: name the AE titles that may send")
        context = settings.tls and settings.tls.context(ssl.Purpose.CLIENT_AUTH)
        self._spool = Spool(settings.spool, watermark_bytes=settings.watermark_bytes)
        self._lease = ExitStack()
        refusal = f"another process receives into {settings.spool}; stop it first"
        self._lease.enter_context(held_alone(settings.spool / LOCK_FILE, refusal))
        self._arrivals = Arrivals(settings.spool, settings.silence_s, on_complete=self._on_complete)
        self._entity = _entity(settings)
        try:
            self._server = self._entity.make_server(
                (settings.listen, settings.port),
                evt_handlers=cast(Any, self._handlers()),
                server_class=cast(Any, GuardedServer),
                tls=context,
                on_fault=self._count,
            )
        except OSError as fault:
            self._lease.close()
            where = f"{settings.listen}:{settings.port}"
            raise StateError(f"cannot listen on {where}: {fault.strerror}; set [pacs] port") from fault
        self._serving = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1})
        self._watching = threading.Thread(target=self._watch)
        self._serving.start()
        self._watching.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take no more connections, let the open ones end for a while, cut the rest off."""
        self._ended.set()
        self._server.shutdown()
        self._serving.join()
        until = time.monotonic() + _GRACE_S
        while (open_ones := self._server.active_associations) and time.monotonic() < until:
            time.sleep(0.05)
        for association in open_ones:
            association.abort()
        self._watching.join()
        with suppress(OSError):  # a full disk: the instances are safe, the line is not
            self._arrivals.tell(stopping=True)
        self._lease.close()

    def _handlers(self) -> list[tuple[Any, Callable[[Event], Any]]]:
        return [
            (evt.EVT_CONN_OPEN, bound_reading),
            (evt.EVT_REQUESTED, self._check_caller),
            (evt.EVT_REJECTED, lambda _: self._count("association-refused")),
            (evt.EVT_ESTABLISHED, self._count_contexts),
            (evt.EVT_PDU_RECV, self._bound_instance),
            (evt.EVT_DIMSE_RECV, self._end_instance),
            (evt.EVT_CONN_CLOSE, self._end_instance),
            (evt.EVT_C_ECHO, lambda _: 0x0000),
            (evt.EVT_C_STORE, self._store),
        ]

    def _check_caller(self, event: Event) -> None:
        title = str(cast(Any, event.assoc.requestor.primitive).calling_ae_title)
        if not self._settings.knows(title, str(event.assoc.requestor.address)):
            self._count("unknown-caller")
            event.assoc.acse.send_reject(*_CALLING_UNKNOWN)
            event.assoc.kill()

    def _count_contexts(self, event: Event) -> None:
        """Count an association that offers nothing we take; one that offers other classes too is usual."""
        if not event.assoc.accepted_contexts:
            self._count(Verdict.CLASS)

    def _bound_instance(self, event: Event) -> None:
        """Cut off a message that grows too large; it is in memory until it is whole."""
        key = id(event.assoc)
        with self._lock:
            size = self._sizes[key] = self._sizes.get(key, 0) + int(getattr(event.pdu, "pdu_length", 0))
        if size > self._settings.most_instance_bytes:
            self._count("too-large")
            event.assoc.abort(block=False)

    def _end_instance(self, event: Event) -> None:
        with self._lock:
            self._sizes.pop(id(event.assoc), None)

    def _store(self, event: Event) -> int:
        verdict, place = self._spool.keep(arrived(event))
        self._count(verdict)
        if verdict.is_kept and place is not None:
            self._arrivals.add(place)
        return STATUS[verdict]

    def _count(self, what: str) -> None:
        with self._lock:
            self.counts[str(what)] += 1

    def _watch(self) -> None:
        while not self._ended.wait(min(1.0, self._settings.silence_s / 4)):
            with suppress(OSError):  # a full disk; told when there is room again
                self._arrivals.tell()


def arrived(event: Event) -> Arrived:
    """Return the instance of a C-STORE request."""
    request = cast(C_STORE, event.request)
    return Arrived(
        request.DataSet or io.BytesIO(),
        str(request.AffectedSOPClassUID),
        str(request.AffectedSOPInstanceUID),
        str(event.context.transfer_syntax),
    )


def _entity(settings: PacsSettings) -> ApplicationEntity:
    entity = ApplicationEntity(settings.ae_title)
    entity.require_called_aet = True
    entity.require_calling_aet = [caller.ae_title for caller in settings.callers]
    entity.maximum_associations = settings.most_associations
    entity.maximum_pdu_size = MOST_PDU_BYTES
    entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = _TIMEOUTS_S
    entity.add_supported_context(Verification)
    for storage in CLASSES:
        entity.add_supported_context(storage, list(SYNTAXES))
    return entity
