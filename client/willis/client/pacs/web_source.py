"""Ask a PACS by DICOMweb: what a study holds (QIDO-RS), and for its instances (WADO-RS)."""

import io
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from typing import Any, Self

import httpx
from pydicom.filereader import read_dataset
from pydicom.tag import Tag

from willis.client.pacs.accepted import is_uid
from willis.client.pacs.multipart import MultipartError, boundary_of, parts
from willis.client.pacs.settings import Web, check_owner_alone
from willis.client.pacs.source import Broken, Deliver, Listed
from willis.client.pacs.spool import Arrived
from willis.shared.errors import SiteRefused, StateError

_TIMEOUT = httpx.Timeout(120.0, connect=10.0)
_PAGE = 1000
_ANY_SYNTAX = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_PREAMBLE = 132
_META = _PREAMBLE + 12  # group length of the file meta information


class WebSource:
    """A PACS that is asked by QIDO-RS and WADO-RS.

    Args:
        web: It.
        most_instance_bytes: A larger instance is refused.

    Raises:
        StateError: The token or a certificate cannot be read, or others than its owner may open it.
    """

    def __init__(self, web: Web, *, most_instance_bytes: int) -> None:
        self._most = most_instance_bytes
        verify = _context(web)
        headers = {} if web.token is None else {"Authorization": f"Bearer {_token(web)}"}
        self._client = httpx.Client(
            base_url=web.url.rstrip("/") + "/",
            headers=headers,
            verify=verify,
            timeout=_TIMEOUT,
            trust_env=False,  # a proxy would see which studies are asked for
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def listing(self, study: str) -> list[Listed]:
        """Return the instances of a study; none where the PACS does not know it.

        Raises:
            Broken: The PACS is not there, or breaks off.
            SiteRefused: It does not let us in.
        """
        found: dict[str, Listed] = {}
        while True:
            page = [one for one in map(_listed, self._page(study, len(found))) if one is not None]
            fresh = {one.instance: one for one in page if one.instance not in found}
            found |= fresh
            if len(page) < _PAGE or not fresh:  # a server that knows no offset sends the first page again
                return list(found.values())

    def bring(self, study: str, wanted: Sequence[Listed], deliver: Deliver) -> None:
        """Fetch instances and hand each to ``deliver``: whole series in one answer where all of it is wanted.

        Raises:
            Broken: As above; some may have come.
        """
        listed = self.listing(study)
        for series, ones in groupby(sorted(wanted, key=lambda one: one.series), key=lambda one: one.series):
            instances = [one.instance for one in ones]
            place = f"studies/{study}/series/{series}"
            if len(instances) == sum(one.series == series for one in listed):
                self._bring(place, deliver)
            else:
                for instance in instances:
                    self._bring(f"{place}/instances/{instance}", deliver)

    def _bring(self, place: str, deliver: Deliver) -> None:
        with self._answer(place, {"Accept": _ANY_SYNTAX}) as answer:
            try:
                boundary = boundary_of(answer.headers.get("content-type", ""))
                for _, body in parts(answer.iter_bytes(), boundary, most_bytes=self._most):
                    deliver(_arrived(body))
            except MultipartError as fault:
                raise Broken(f"sent an answer that {fault}", answered=True) from None

    def _page(self, study: str, offset: int) -> list[Any]:
        options = {"limit": str(_PAGE), "offset": str(offset), "includefield": "00080016"}
        with self._answer(
            f"studies/{study}/instances", {"Accept": "application/dicom+json"}, options
        ) as answer:
            if answer.status_code in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND):
                return []
            answer.read()
            try:
                page = answer.json()
            except ValueError:
                raise Broken("answered a query with something else than JSON", answered=True) from None
        return page if isinstance(page, list) else []

    @contextmanager
    def _answer(
        self, place: str, headers: dict[str, str], options: dict[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        try:
            with self._client.stream("GET", place, headers=headers, params=options) as answer:
                _check(answer.status_code, may_lack=options is not None)
                yield answer
        except (httpx.ConnectError, httpx.ConnectTimeout) as fault:
            raise Broken(f"did not answer ({type(fault).__name__})", answered=False) from None
        except httpx.HTTPError as fault:  # its text would name the study
            raise Broken(f"broke off ({type(fault).__name__})", answered=True) from None


def _check(status: int, *, may_lack: bool) -> None:
    if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
        raise SiteRefused(f"the PACS does not let us in (HTTP {status}): see [pacs.web] token and tls")
    if status in (httpx.codes.NO_CONTENT, httpx.codes.NOT_FOUND) and may_lack:
        return
    if status != httpx.codes.OK:
        raise Broken(f"answered with HTTP {status}", answered=True)


def _listed(one: Any) -> Listed | None:
    series, instance, sop_class = (_first(one, tag) for tag in ("0020000E", "00080018", "00080016"))
    return Listed(series, instance, sop_class) if is_uid(series) and is_uid(instance) else None


def _first(one: Any, tag: str) -> str:
    try:
        return str(one[tag]["Value"][0])
    except (KeyError, IndexError, TypeError):
        return ""


def _arrived(body: bytearray) -> Arrived:
    """Take a file's meta information off; the spool writes its own, so that every way gives one file."""
    try:
        if bytes(body[128:_PREAMBLE]) != b"DICM":
            raise MultipartError("holds a part that is no DICOM file")
        end = _META + int.from_bytes(body[_META - 4 : _META], "little")
        meta = read_dataset(io.BytesIO(body[_PREAMBLE:end]), False, True)
        classes = [str(meta[Tag(0x0002, element)].value) for element in (0x0002, 0x0003, 0x0010)]
    except MultipartError:
        raise
    except Exception:  # whatever pydicom makes of bytes from anywhere; its text would quote them
        raise MultipartError("holds a file whose meta information is damaged") from None
    with memoryview(body) as view:
        return Arrived(io.BytesIO(view[end:]), *classes)


def _context(web: Web) -> ssl.SSLContext | bool:
    if web.tls is not None:
        return web.tls.context(ssl.Purpose.SERVER_AUTH)
    try:
        context = ssl.create_default_context(cafile=web.ca)
    except OSError as fault:
        raise StateError(f"cannot read {web.ca}: {fault.strerror}") from fault
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _token(web: Web) -> str:
    assert web.token is not None
    check_owner_alone(web.token, what="token")
    try:
        token = web.token.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as fault:
        raise StateError(f"cannot read the token {web.token}: {type(fault).__name__}") from fault
    if not token or not token.isprintable() or " " in token:
        raise StateError(f"{web.token} holds no token: one line without spaces")
    return token
