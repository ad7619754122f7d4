"""A run's rounds as TensorBoard reads them: one event file, made from ``metrics.jsonl`` and nothing else.

The file is a function of the records alone: after a crash it is made anew from them, so it has no round
twice and lacks none. Its numbers are float32, those of ``metrics.jsonl`` exact. Whatever is in it the
coordinator holds already; nothing of a patient is.
"""

import os
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tensorboardX.crc32c import crc32c
from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]: made when run
from tensorboardX.summary import scalar

from willis.server.checkpoint import RoundRecord, read_metrics
from willis.shared.errors import StateError
from willis.shared.privacy import PrivacySpent
from willis.shared.whole_file import make_folder, write_whole

FOLDER = "tensorboard"
_FILE = "events.out.tfevents.0000000000.willis"  # TensorBoard knows an event file by "tfevents"
_VERSION = "brain.Event:2"
_MASK = 0xA282EAD8  # TFRecord keeps checksums rotated and shifted by this


@dataclass(frozen=True)
class Scalar:
    """One number of a round.

    Attributes:
        tag: Its name, groups apart by "/".
        value: The number.
        told: What it is, with its unit; for an epsilon with delta, unit and relation.
    """

    tag: str
    value: float
    told: str


def scalars_of(record: RoundRecord) -> tuple[Scalar, ...]:
    """Return every number of a round's record under the name that trackers show."""
    norms = (Scalar(f"norm/{site}", norm, "L2 norm") for site, norm in record.norms.items())
    return (
        Scalar("round/merged", float(record.merged), "1 where the model moved, 0 where it did not"),
        Scalar("round/answered", len(record.answered), "sites whose answer counted"),
        Scalar("round/refused", len(record.refused), "the study's other sites"),
        Scalar("round/strangers", sum(record.strangers.values()), "nodes turned away"),
        Scalar("round/seconds", record.seconds, "from asking to merging, in seconds"),
        *(Scalar(f"epsilon/{site}", one.epsilon, _meaning(one)) for site, one in record.spent.items()),
        *norms,
    )


@dataclass(frozen=True)
class EventFile:
    """The event file of one run.

    Attributes:
        path: In ``tensorboard/`` of the run's folder.
    """

    path: Path

    def add(self, record: RoundRecord) -> None:
        """Append a round; on return it is on disk.

        Raises:
            StateError: The disk is full or not writable; the record itself is in ``metrics.jsonl``.
        """
        try:
            with self.path.open("ab") as file:
                file.write(_round_bytes(record))
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            place = f"{self.path}: {fault.strerror}"
            raise StateError(f"cannot write {place}; free some disk and resume") from fault


def begin_events(run: Path) -> EventFile:
    """Bring a run's event file to where its ``metrics.jsonl`` stands, and return it for further rounds.

    Edge cases:
        A file that already stands there is left alone, so that a TensorBoard that reads it goes on.

    Args:
        run: The run's folder; of the rounds only what ``metrics.jsonl`` there holds is told.

    Raises:
        StateError: A record does not fit, or the file cannot be written.
    """
    make_folder(run / FOLDER)
    path = run / FOLDER / _FILE
    wanted = _file_bytes(read_metrics(run / "metrics.jsonl"))
    if not path.exists() or path.read_bytes() != wanted:
        write_whole(path, wanted)
    return EventFile(path)


def _meaning(spent: PrivacySpent) -> str:
    kind = f"unit {spent.unit.value}, neighbours {spent.relation.value}"
    return f"spent so far at delta {spent.delta:g}, {kind}"


def _file_bytes(records: Sequence[RoundRecord]) -> bytes:
    head = Event(wall_time=0.0, file_version=_VERSION)
    return b"".join([_framed(head.SerializeToString()), *map(_round_bytes, records)])


def _round_bytes(record: RoundRecord) -> bytes:
    """Return a round's events; those of a record without a time of day are told at time 0."""
    return b"".join(
        _framed(
            Event(
                wall_time=record.ended or 0.0,
                step=record.round,
                summary=scalar(one.tag, one.value, display_name=one.tag, summary_description=one.told),
            ).SerializeToString()
        )
        for one in scalars_of(record)
    )


def _framed(data: bytes) -> bytes:
    """Return a TFRecord: length, its checksum, the data, their checksum; all little-endian."""
    length = struct.pack("<Q", len(data))
    return length + _checksum(length) + data + _checksum(data)


def _checksum(data: bytes) -> bytes:
    plain = crc32c(data) & 0xFFFFFFFF
    rotated = (plain >> 15 | plain << 17) & 0xFFFFFFFF
    return struct.pack("<I", (rotated + _MASK) & 0xFFFFFFFF)
