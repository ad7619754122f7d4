"""The spool: instances as they came, one file each, named by nothing that a person typed."""

import errno
import fcntl
import hashlib
import io
import itertools
import os
import secrets
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from pydicom.filereader import read_dataset
from pydicom.tag import BaseTag, Tag
from pydicom.uid import UID
from pynetdicom.dsutils import create_file_meta, encode_file_meta

from willis.client.pacs.accepted import CLASSES, SYNTAXES, is_uid
from willis.shared.errors import StateError
from willis.shared.whole_file import make_folder

_LAST = Tag(0x0020, 0x000E)  # SeriesInstanceUID: nothing behind it is read
_WANTED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_MOST_HEAD_BYTES = 16 * 1024 * 1024  # of a deflated data set; what is before the series' UID is a few hundred
_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_DEFLATED = "1.2.840.10008.1.2.1.99"
_count = itertools.count()


class Verdict(StrEnum):
    """What became of an instance that arrived."""

    NEW = "new"
    AGAIN = "again"
    NO_ROOM = "no-room"
    NOT_WRITTEN = "not-written"
    OTHER_BYTES = "other-bytes"
    CLASS = "class-not-taken"
    MISMATCH = "mismatch"
    DAMAGED = "damaged"
    NOT_ASKED = "not-asked"

    @property
    def is_kept(self) -> bool:
        """Whether the spool holds the instance now."""
        return self in (Verdict.NEW, Verdict.AGAIN)


@dataclass(frozen=True, repr=False)
class Arrived:
    """An encoded instance without its file meta information.

    Attributes:
        data: The data set's bytes, in ``syntax``.
        sop_class: As the sender says.
        instance: SOPInstanceUID, as the sender says.
        syntax: Transfer syntax UID.
    """

    data: io.BytesIO
    sop_class: str
    instance: str
    syntax: str


@dataclass(frozen=True, repr=False)
class Place:
    """Where an instance belongs: digests of the UIDs of its study and series, and its kind."""

    study: str
    series: str
    kind: str


class Spool:
    """A folder of received instances. Several processes may write into the same one.

    Args:
        folder: Made where missing, for its owner alone.
        watermark_bytes: An instance that would leave less free is refused.

    Raises:
        StateError: The folder cannot be made.
    """

    def __init__(self, folder: Path, *, watermark_bytes: int) -> None:
        self.folder = folder
        self.instances = folder / "instances"
        self._parts = folder / "parts"
        self._watermark = watermark_bytes
        try:
            for one in (folder, self.instances, self._parts):
                make_folder(one, mode=0o700)
            self._forget_parts()
        except OSError as fault:
            raise StateError(f"cannot make the spool {folder}: {fault.strerror}") from fault

    def holds(self, instance: str) -> bool:
        """Whether an instance of this SOPInstanceUID is there."""
        return self._path(instance).exists()

    def keep(self, arrived: Arrived, *, study: str | None = None) -> tuple[Verdict, Place | None]:
        """Keep an instance; on return of NEW or AGAIN it is on the disk, whole.

        Args:
            arrived: It.
            study: The StudyInstanceUID that was asked for; None takes any.

        Returns:
            What became of it, and where it belongs where its header could be read. Whatever the verdict,
            nothing that was there before is changed and no part of a file is left.
        """
        if arrived.sop_class not in CLASSES or arrived.syntax not in SYNTAXES:
            return Verdict.CLASS, None
        found = _header(arrived)
        if found is None or not all(is_uid(value) for value in found.values()):
            return Verdict.DAMAGED, None
        if (found["SOPClassUID"], found["SOPInstanceUID"]) != (arrived.sop_class, arrived.instance):
            return Verdict.MISMATCH, None
        if study is not None and found["StudyInstanceUID"] != study:
            return Verdict.NOT_ASKED, None
        series = found["StudyInstanceUID"] + "/" + found["SeriesInstanceUID"]
        place = Place(_name(found["StudyInstanceUID"]), _name(series), CLASSES[arrived.sop_class])
        return self._write(arrived), place

    def _write(self, arrived: Arrived) -> Verdict:
        meta = create_file_meta(
            sop_class_uid=UID(arrived.sop_class),
            sop_instance_uid=UID(arrived.instance),
            transfer_syntax=UID(arrived.syntax),
        )
        head = b"\x00" * 128 + b"DICM" + encode_file_meta(meta)
        path = self._path(arrived.instance)
        # Two containers that share a spool may have equal process numbers; no two writers share a name.
        part = self._parts / f"{os.getpid()}-{next(_count)}-{secrets.token_hex(8)}.part"
        try:
            with arrived.data.getbuffer() as data:
                if path.exists():
                    return _compare(path, head, data)
                if shutil.disk_usage(self.folder).free - len(data) < self._watermark:
                    return Verdict.NO_ROOM
                _write_down(part, head, data)
                with self._alone():
                    if path.exists():
                        return _compare(path, head, data)
                    part.rename(path)
                    _sync(self.instances)
                    return Verdict.NEW
        except OSError as fault:
            return Verdict.NO_ROOM if fault.errno in _NO_ROOM else Verdict.NOT_WRITTEN
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)

    def _path(self, instance: str) -> Path:
        return self.instances / f"{_name(instance)}.dcm"

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self.folder / "spool.lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _forget_parts(self) -> None:
        """Remove what a process that was killed left half-written."""
        for part in self._parts.glob("*.part"):
            owner = part.name.partition("-")[0]
            if owner.isdecimal() and (int(owner) == os.getpid() or not _lives(int(owner))):
                part.unlink(missing_ok=True)


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another's
        return True
    return True


def _name(uid: str) -> str:
    return hashlib.sha256(uid.encode()).hexdigest()


def _header(arrived: Arrived) -> dict[str, str] | None:
    """Read the four UIDs at the head of a data set; None where it is damaged."""
    stream = arrived.data
    stream.seek(0)
    syntax = UID(arrived.syntax)
    try:
        if arrived.syntax == _DEFLATED:  # so much and no more: a few bytes could stand for gigabytes
            with stream.getbuffer() as data:
                stream = io.BytesIO(zlib.decompressobj(-zlib.MAX_WBITS).decompress(data, _MOST_HEAD_BYTES))
        found = read_dataset(
            stream,
            syntax.is_implicit_VR,
            syntax.is_little_endian,
            stop_when=_is_behind,
            specific_tags=[*map(Tag, _WANTED)],
        )
        return {name: str(found[name].value) for name in _WANTED}
    except Exception:  # whatever pydicom makes of bytes from anywhere; its text would quote them
        return None


def _is_behind(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag > _LAST


def _write_down(part: Path, head: bytes, data: memoryview) -> None:
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(head)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _compare(path: Path, head: bytes, data: memoryview) -> Verdict:
    if path.stat().st_size != len(head) + len(data):
        return Verdict.OTHER_BYTES
    with path.open("rb") as file:
        if file.read(len(head)) != head:
            return Verdict.OTHER_BYTES
        start, step = 0, 1 << 20
        while block := file.read(step):
            if block != data[start : start + len(block)]:
                return Verdict.OTHER_BYTES
            start += len(block)
    return Verdict.AGAIN


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
