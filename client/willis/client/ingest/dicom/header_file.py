"""Open a DICOM file up to its pixels: whatever is in it, a header or a code comes, and nothing is told."""

import hashlib
import io
import logging
import os
import stat
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from pydicom.config import IGNORE, settings
from pydicom.dataset import FileDataset
from pydicom.filereader import read_partial
from pydicom.uid import DeflatedExplicitVRLittleEndian, MediaStorageDirectoryStorage

from willis.client.ingest.dicom.header_text import text_of

LARGEST_VALUE = (
    64 << 20
)  # bytes of one value of a header; a longer one is skipped, and so damaged where it is read
LARGEST_HEADER = 256 << 20  # bytes that a deflated header may have once inflated
_LARGEST_INFLATED = 4 << 30
_PIXELS = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})
_PIXEL_TAGS = frozenset(struct.pack(order + "HH", 0x7FE0, tag & 0xFFFF) for tag in _PIXELS for order in "<>")
_LONG = frozenset({b"OB", b"OW", b"OF", b"OD", b"OL", b"OV", b"UN"})
_UNDEFINED = 0xFFFFFFFF
_ITEM, _END = 0xFFFEE000, 0xFFFEE0DD
_CHUNK = 1 << 20
_FIRST = 64 << 10  # bytes that are read at once; most headers, and the pixel data's tag, lie within


class UnfitFileError(Exception):
    """A file that is no header; ``code`` is one of :class:`willis.client.ingest.dicom.instance.Left`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, repr=False)
class Header:
    """What stands before the pixels.

    Attributes:
        dataset: The elements, read when asked for.
        pixels: Bytes of the pixel data that its length promises; None where there are none, -1 where they are
            encapsulated.
        present: Bytes that follow in the file.
        file: Stands at the first byte of the pixel data's value.
        order: ``<`` or ``>``.
    """

    dataset: FileDataset
    pixels: int | None
    present: int
    file: BinaryIO
    order: str


@contextmanager
def quiet() -> Iterator[None]:
    """Let pydicom say nothing: its warnings and its log quote values."""
    logger = logging.getLogger("pydicom")
    before = logger.disabled, settings.reading_validation_mode
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logger.disabled, settings.reading_validation_mode = True, IGNORE
        try:
            yield
        finally:
            logger.disabled, settings.reading_validation_mode = before


@contextmanager
def open_header(path: Path, *, inflate: int = LARGEST_HEADER) -> Iterator[Header]:
    """Open a file for reading and read up to its pixels. Inside, pydicom is :func:`quiet`.

    Guarantees:
        No link is followed, nothing but a plain file is read, no value above 64 MiB is taken into memory.

    Raises:
        UnfitFileError: With a code alone: no text of a library, which may quote values.
    """
    with _opened(path) as plain, quiet():
        yield _header(plain, inflate=inflate)


def pixel_digest(path: Path) -> str:
    """Return the SHA-256 of the bytes of the pixel data, as stored; of its items where it is encapsulated.

    Raises:
        UnfitFileError: The file cannot be read, has no pixel data, or less than it promises.
    """
    with open_header(path, inflate=_LARGEST_INFLATED) as header:
        if header.pixels is None:
            raise UnfitFileError("damaged")
        digest = hashlib.sha256()
        for chunk in _items(header) if header.pixels < 0 else _pieces(header.file, header.pixels):
            digest.update(chunk)
        return digest.hexdigest()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except (OSError, ValueError):
        raise UnfitFileError("unreadable") from None
    with os.fdopen(handle, "rb") as file:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UnfitFileError("not-dicom")
        yield file


def _header(file: BinaryIO, *, inflate: int) -> Header:
    try:
        start = file.read(_FIRST)
    except OSError:
        raise UnfitFileError("unreadable") from None
    marked = start[128:132] == b"DICM"
    if not marked and not _begins_like_a_header(start):
        raise UnfitFileError("not-dicom")
    unfit = "damaged" if marked else "not-dicom"
    try:
        deflated = DeflatedExplicitVRLittleEndian.encode() in start[:1024]
        if deflated:
            file = _inflated(file, most=inflate)
            start = file.read(_FIRST)
        dataset = _parsed(file, start)
        if deflated:
            dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        if text_of(dataset.file_meta, "MediaStorageSOPClassUID") == MediaStorageDirectoryStorage:
            raise UnfitFileError("dicomdir")
        if not _last_is_whole(dataset):
            raise UnfitFileError(unfit)
        return _at_pixels(dataset, file)
    except UnfitFileError:
        raise
    except OSError:
        raise UnfitFileError("unreadable") from None
    except Exception:  # any parser's complaint of any bytes; its text may quote them, so it ends here
        raise UnfitFileError(unfit) from None


def _parsed(file: BinaryIO, start: bytes) -> FileDataset:
    """Return the elements before the pixels; ``file`` then stands at the pixel data, or where they end.

    Memory is faster to parse than a file: the first bytes do where the pixel data begin within them.
    """
    near = io.BytesIO(start)
    with suppress(Exception):  # a header that is cut off there is read again from the file
        dataset = _elements(near)
        if start[near.tell() : near.tell() + 4] in _PIXEL_TAGS and near.tell() + 12 <= len(start):
            file.seek(near.tell())
            return dataset
    file.seek(0)
    return _elements(file)


def _elements(file: BinaryIO) -> FileDataset:
    return read_partial(file, _at_pixel_data, defer_size=LARGEST_VALUE, force=True)


def _at_pixel_data(tag: int, _vr: str | None, _length: int) -> bool:
    return int(tag) in _PIXELS


def _begins_like_a_header(start: bytes) -> bool:
    """Whether a file without preamble begins with group 2 or 8, little or big endian."""
    return (
        len(start) >= 8
        and start[:2] in (b"\2\0", b"\x08\0", b"\0\2", b"\0\x08")
        and start[2:4] != b"\xff\xff"
    )


def _inflated(file: BinaryIO, *, most: int) -> BinaryIO:
    """Return a deflated file inflated, its syntax named explicit little endian."""
    file.seek(0)
    start = file.read(144)
    marker, length = start[132:140], 144 + int.from_bytes(start[140:144], "little")
    if marker != b"\2\0\0\0UL\4\0":
        raise UnfitFileError("damaged")
    file.seek(0)
    head, packed = file.read(length), file.read()
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    body = inflater.decompress(packed, most)
    plain, deflated = b"1.2.840.10008.1.2.1", DeflatedExplicitVRLittleEndian.encode()
    return io.BytesIO(head.replace(deflated, plain.ljust(len(deflated), b"\0")) + body)


def _last_is_whole(dataset: FileDataset) -> bool:
    """Whether the last element has the bytes that it promises: a file cut off in its header has not."""
    raw = dataset.get_item(list(dataset.keys())[-1]) if len(dataset) else None
    value, length = getattr(raw, "value", None), getattr(raw, "length", None)
    return not (isinstance(value, bytes) and length not in (None, _UNDEFINED) and len(value) < length)


def _at_pixels(dataset: FileDataset, file: BinaryIO) -> Header:
    implicit, little = dataset.original_encoding
    order = "<" if little else ">"
    at = file.tell()
    head = file.read(12)
    size = file.seek(0, os.SEEK_END)
    if len(head) < 8:
        return Header(dataset, None, 0, file, order)
    group, element = struct.unpack(order + "HH", head[:4])
    if (group << 16 | element) not in _PIXELS:
        raise UnfitFileError("damaged")
    long = not implicit and head[4:6] in _LONG
    length = int(struct.unpack(order + "L", head[8:12] if long else head[4:8])[0])
    begin = at + (12 if long else 8)
    file.seek(begin)
    return Header(dataset, -1 if length == _UNDEFINED else length, size - begin, file, order)


def _pieces(file: BinaryIO, length: int) -> Iterator[bytes]:
    while length:
        piece = file.read(min(length, _CHUNK))
        if not piece:
            raise UnfitFileError("damaged")
        length -= len(piece)
        yield piece


def _items(header: Header) -> Iterator[bytes]:
    while True:
        head = header.file.read(8)
        if len(head) < 8:
            raise UnfitFileError("damaged")
        group, element, length = struct.unpack(header.order + "HHL", head)
        if (group << 16 | element) == _END:
            return
        if (group << 16 | element) != _ITEM:
            raise UnfitFileError("damaged")
        yield head
        yield from _pieces(header.file, length)
