"""Ask a PACS by DIMSE: what a study holds (C-FIND), and for its instances (C-GET, C-MOVE)."""

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby

from pydicom.dataset import Dataset
from pynetdicom import evt
from pynetdicom.ae import ApplicationEntity
from pynetdicom.association import Association
from pynetdicom.events import Event
from pynetdicom.presentation import build_role
from pynetdicom.sop_class import (  # pyright: ignore[reportAttributeAccessIssue]
    StudyRootQueryRetrieveInformationModelFind,  # pyright: ignore[reportAttributeAccessIssue]
    StudyRootQueryRetrieveInformationModelGet,  # pyright: ignore[reportAttributeAccessIssue]
    StudyRootQueryRetrieveInformationModelMove,  # pyright: ignore[reportAttributeAccessIssue]
)

from willis.client.pacs.accepted import CLASSES, SYNTAXES, is_uid
from willis.client.pacs.listener import MOST_PDU_BYTES
from willis.client.pacs.receive import STATUS, arrived
from willis.client.pacs.settings import Source
from willis.client.pacs.source import Broken, Deliver, Listed

_TIMEOUTS_S = (30.0, 120.0, 120.0)  # opening, a message (a PACS may fetch from tape), silence on the line
_CONNECT_S = 10.0
_BATCH = 50  # instances in one request
_PENDING = (0xFF00, 0xFF01)


class DimseSource:
    """A PACS that is asked by C-FIND, and by C-GET or C-MOVE.

    Args:
        source: It.
        ae_title: What the site calls itself; with C-MOVE also where the instances go.
        moves: C-MOVE to our own listener instead of C-GET.
    """

    def __init__(self, source: Source, ae_title: str, *, moves: bool = False) -> None:
        self._source, self._ae_title, self._moves = source, ae_title, moves
        self._tls = source.tls and source.tls.context(ssl.Purpose.SERVER_AUTH)

    def listing(self, study: str) -> list[Listed]:
        """Return the instances of a study; none where the PACS does not know it.

        Raises:
            Broken: The PACS is not there, refuses the association, or breaks off.
        """
        found = []
        with self._association([StudyRootQueryRetrieveInformationModelFind]) as association:
            for series in _find(association, "SERIES", StudyInstanceUID=study, SeriesInstanceUID=""):
                uid = str(series.get("SeriesInstanceUID", ""))
                wanted = {"SOPInstanceUID": "", "SOPClassUID": ""}
                level = _find(association, "IMAGE", StudyInstanceUID=study, SeriesInstanceUID=uid, **wanted)
                found += [
                    Listed(uid, str(one.get("SOPInstanceUID", "")), str(one.get("SOPClassUID", "")))
                    for one in level
                ]
        return [one for one in found if is_uid(one.instance) and is_uid(one.series)]

    def bring(self, study: str, wanted: Sequence[Listed], deliver: Deliver) -> None:
        """Ask for instances; C-GET hands each to ``deliver``, C-MOVE sends them to the listener.

        Raises:
            Broken: As above; some may have come.
        """
        if self._moves:
            with self._association([StudyRootQueryRetrieveInformationModelMove]) as association:
                for request in _requests(study, wanted):
                    _follow(
                        association.send_c_move(
                            request, self._ae_title, StudyRootQueryRetrieveInformationModelMove
                        )
                    )
            return

        def store(event: Event) -> int:
            return STATUS[deliver(arrived(event))]

        with self._association([StudyRootQueryRetrieveInformationModelGet], store) as association:
            for request in _requests(study, wanted):
                _follow(association.send_c_get(request, StudyRootQueryRetrieveInformationModelGet))

    @contextmanager
    def _association(
        self, models: Sequence[str], store: Callable[[Event], int] | None = None
    ) -> Iterator[Association]:
        entity = ApplicationEntity(self._ae_title)
        entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = _TIMEOUTS_S
        entity.connection_timeout = _CONNECT_S
        for model in models:
            entity.add_requested_context(model)
        if store is not None:  # a context each: the PACS may answer in the syntax that it holds
            for storage in CLASSES:
                for syntax in SYNTAXES:
                    entity.add_requested_context(storage, syntax)
        association = entity.associate(
            self._source.host,
            self._source.port,
            ae_title=self._source.ae_title,
            max_pdu=MOST_PDU_BYTES,
            tls_args=None if self._tls is None else (self._tls, self._source.host),
            ext_neg=[build_role(storage, scp_role=True) for storage in CLASSES] if store else None,
            evt_handlers=[(evt.EVT_C_STORE, store)] if store else None,
        )
        if not association.is_established:
            raise Broken(
                "refused the association" if association.is_rejected else "did not answer",
                answered=association.is_rejected,
            )
        try:
            if not association.accepted_contexts:
                raise Broken("offers none of the services that were asked for", answered=True)
            yield association
        except ValueError as fault:  # pynetdicom: no accepted context for what is sent
            raise Broken("does not offer the service that was asked for", answered=True) from fault
        finally:
            if association.is_established:
                association.release()


def _find(association: Association, level: str, **keys: str) -> list[Dataset]:
    query = _identifier(level, keys)
    found = []
    for status, identifier in association.send_c_find(query, StudyRootQueryRetrieveInformationModelFind):
        code = _code(status)
        if code in _PENDING and identifier is not None:
            found.append(identifier)
        elif code != 0x0000:
            raise Broken(f"answered a query with status {code:#06x}", answered=True)
    return found


def _requests(study: str, wanted: Sequence[Listed]) -> Iterator[Dataset]:
    """Yield requests: a few instances of one series each, so that little is asked again after a break."""
    for series, ones in groupby(sorted(wanted, key=lambda one: one.series), key=lambda one: one.series):
        instances = [one.instance for one in ones]
        for start in range(0, len(instances), _BATCH):
            batch = instances[start : start + _BATCH]
            yield _identifier(
                "IMAGE",
                {"StudyInstanceUID": study, "SeriesInstanceUID": series, "SOPInstanceUID": batch},
            )


def _identifier(level: str, keys: "dict[str, str] | dict[str, str | list[str]]") -> Dataset:
    query = Dataset()
    query.QueryRetrieveLevel = level
    for name, value in keys.items():
        setattr(query, name, value)
    return query


def _follow(responses: Iterable[tuple[Dataset, Dataset | None]]) -> None:
    """Wait for a request's end. What did not come is seen by what the spool lacks, not by these counts."""
    for status, _ in responses:
        _code(status)


def _code(status: Dataset) -> int:
    if "Status" not in status:
        raise Broken("broke off", answered=True)
    return int(status.Status)
