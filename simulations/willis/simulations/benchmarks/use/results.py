"""The bench's results: one JSON line a cell, appended when the cell is done; a torn last line is cut."""

import json
import os
from pathlib import Path
from typing import Literal

from pydantic import Field

from willis.shared.errors import StateError
from willis.shared.metrics.scores import SegmentationScores
from willis.shared.privacy import PrivacySpent, PrivacyUnit
from willis.shared.settings import Settings, parse
from willis.shared.update import Digest
from willis.shared.whole_file import write_whole
from willis.simulations.benchmarks.use.grid import Epsilon, Kind, TestedOn

Privacy = Literal["public", "private", "not private"]


class Line(Settings):
    """One cell's result.

    Attributes:
        key: Of the cell; also its folder's name.
        data: Name of the data set.
        row: Name of the row.
        kind: Of the row.
        epsilon: Of the cell: 0 for what is public, ``"inf"`` for what is not private.
        unit: Whose privacy it is.
        seed: Of the study.
        real_subjects: Real subjects that were trained on unprotected, beside what the row makes.
        privacy: ``public``: met no patient. ``private``: by the ledgers. ``not private``: no protection.
        sites: What every site spent.
        network: The bound for a patient seen at one site only.
        scores: Of the U-net on the subjects tested on.
        tested_on: Which subjects these were.
        training_subjects: Of all sites.
        study_digest: Of the study that was run.
        release: Digest of the release, empty where there is none.
        train_s: Wall seconds until there were patches, or a U-net.
        wall_s: Wall seconds of the whole cell.
        cpu_s: Processor seconds of it; on a busy machine the fairer figure.
        machine: Processor, threads, versions, day.
    """

    key: str = Field(min_length=1)
    data: str
    row: str
    kind: Kind
    epsilon: Epsilon
    unit: PrivacyUnit
    seed: int = Field(ge=0)
    real_subjects: int = Field(default=0, ge=0)
    privacy: Privacy
    sites: dict[str, PrivacySpent]
    network: PrivacySpent | None
    scores: SegmentationScores
    tested_on: TestedOn
    training_subjects: int = Field(ge=1)
    study_digest: Digest
    release: str = ""
    train_s: float = Field(ge=0)
    wall_s: float = Field(ge=0)
    cpu_s: float = Field(ge=0)
    machine: dict[str, str]

    def sentence(self) -> str:
        """Return the privacy figure with all that it needs to be understood."""
        real = f"; {self.real_subjects} real subjects unprotected" if self.real_subjects else ""
        if self.privacy == "public":
            return f"epsilon 0 for every unit: met no patient{real}"
        if self.privacy == "not private" or self.network is None:
            return f"not private (no bound for any unit){real}"
        return self.network.sentence() + real


def add_line(path: Path, line: Line) -> None:
    """Append a line; on return it is on disk.

    Raises:
        StateError: The disk is full or not writable.
    """
    try:
        with path.open("ab") as file:
            file.write(line.model_dump_json().encode() + b"\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        raise StateError(f"cannot write {path}: {fault.strerror}; free some disk and run it again") from fault


def read_lines(path: Path) -> list[Line]:
    """Return all whole lines in their order; none where there is no file.

    Raises:
        StateError: A line does not fit, or two are of one cell.
    """
    if not path.exists():
        return []
    lines = [
        parse(_json(text, f"{path}, line {n}"), Line, where=f"{path}, line {n}", error=StateError)
        for n, text in enumerate(path.read_bytes().split(b"\n")[:-1], start=1)
    ]
    keys = [line.key for line in lines]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        raise StateError(f"{path} holds two lines of {', '.join(twice)}; remove one of each")
    return lines


def mend(path: Path) -> None:
    """Cut a last line that a crash tore."""
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            write_whole(path, whole)


def _json(text: bytes, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise StateError(f"{where} is not valid JSON; remove it and run the bench again") from fault
