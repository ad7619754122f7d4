"""Where a run stands, on disk: written whole or not at all, so that any crash leaves the round before.

Every round leaves two files, ``checkpoint-NNNNNN.safetensors`` (model, and what a release would hold) and
``checkpoint-NNNNNN.json`` (all else, and the digests of both). The JSON file is written last: a round
without it never happened.
"""

import hashlib
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import Field
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from willis.shared.errors import StateError
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import Settings, parse
from willis.shared.study import Name, Study
from willis.shared.update import Arrays, Digest, check_model, digest
from willis.shared.whole_file import write_whole

_KEPT = 2


class RoundRecord(Settings):
    """What happened in one round; one line of ``metrics.jsonl``.

    Attributes:
        round: From 1.
        merged: Whether the model moved; False where the quorum was missed.
        answered: Sites whose update counted.
        refused: Code of every other site of the study.
        strangers: How many nodes were turned away, by code.
        norms: L2 norm of every update that counted.
        spent: What every site that answered has paid so far.
        seconds: From asking to merging.
        ended: When, by the coordinator's clock: seconds since 1970 in UTC; None in records before 0.6.
    """

    round: int = Field(ge=1)
    merged: bool
    answered: tuple[str, ...]
    refused: dict[str, str]
    strangers: dict[str, int]
    norms: dict[str, float]
    spent: dict[str, PrivacySpent]
    seconds: float = Field(ge=0)
    ended: float | None = Field(default=None, ge=0)


@dataclass(frozen=True, eq=False, kw_only=True)
class Checkpoint:
    """Where a run stands after a round.

    Attributes:
        study_digest: Of the study that is run.
        run: The run's name.
        round: Rounds merged so far; 0 before the first.
        model: All that the next round goes on from, by name.
        released: What a release of this round holds.
        history: One record for every merged round.
    """

    study_digest: str
    run: str
    round: int
    model: Arrays
    released: Arrays
    history: tuple[RoundRecord, ...] = ()


class _Sheet(Settings):
    format: int = Field(default=1, ge=1, le=1)
    study_digest: Digest
    run: Name
    round: int = Field(ge=0)
    arrays_digest: Digest
    history: tuple[RoundRecord, ...]


def begin(folder: Path, study: Study, initial: Arrays, *, resume: bool) -> Checkpoint:
    """Return where a run stands: in a new folder at round 0 (and on disk), else where it was left.

    Raises:
        StateError: The folder holds a run and ``resume`` is off; or see :func:`load` and :func:`save`.
    """
    if resume:
        return load(folder, study_digest=study.digest())
    if latest_round(folder) is not None:
        raise StateError(f"{folder.parent} already holds a run; resume it, or use a new folder")
    check_model(initial)
    run = f"{study.name[:40]}-{secrets.token_hex(8)}"  # a name, never used for anything drawn
    state = Checkpoint(
        study_digest=study.digest(), run=run, round=0, model=dict(initial), released=dict(initial)
    )
    save(folder, state)
    return state


def latest_round(folder: Path) -> int | None:
    """Return the round of the newest checkpoint in a folder; None where there is none."""
    rounds = [int(path.stem.removeprefix("checkpoint-")) for path in folder.glob("checkpoint-*.json")]
    return max(rounds, default=None)


def save(folder: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint and drop all but the newest two.

    Raises:
        StateError: The disk is full or not writable; the earlier checkpoints stand.
    """
    arrays = _joined(checkpoint)
    sheet = _Sheet(
        study_digest=checkpoint.study_digest,
        run=checkpoint.run,
        round=checkpoint.round,
        arrays_digest=digest(arrays),
        history=checkpoint.history,
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise StateError(f"cannot make {folder}: {fault.strerror}") from fault
    text = sheet.model_dump_json()
    signed = json.dumps({"sha256": hashlib.sha256(text.encode()).hexdigest(), "sheet": text})
    write_whole(_path(folder, checkpoint.round, "safetensors"), save_tensors(arrays))
    write_whole(_path(folder, checkpoint.round, "json"), signed.encode())
    _prune(folder)


def load(folder: Path, *, study_digest: str) -> Checkpoint:
    """Read the newest checkpoint.

    Raises:
        StateError: There is none, it is damaged, or it belongs to another study.
    """
    number = latest_round(folder)
    if number is None:
        raise StateError(f"nothing to resume in {folder}; start without resume")
    sheet = _read_sheet(_path(folder, number, "json"))
    if sheet.study_digest != study_digest:
        raise StateError(
            f"{folder} holds a run of study {sheet.study_digest[:12]}, asked for was {study_digest[:12]}; "
            "resume with the study.toml that it was begun with, or use a new folder"
        )
    arrays = _read_arrays(_path(folder, number, "safetensors"), sheet.arrays_digest)
    return Checkpoint(
        study_digest=sheet.study_digest,
        run=sheet.run,
        round=sheet.round,
        model=_part(arrays, "model/"),
        released=_part(arrays, "released/"),
        history=sheet.history,
    )


def add_metrics(path: Path, record: RoundRecord) -> None:
    """Append a round's record to ``metrics.jsonl``.

    Raises:
        StateError: The disk is full or not writable.
    """
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(record.model_dump_json() + "\n")
            file.flush()
            os.fsync(file.fileno())
    except OSError as fault:
        raise StateError(f"cannot write {path}: {fault.strerror}; free some disk and resume") from fault


def mend_metrics(path: Path, history: tuple[RoundRecord, ...]) -> None:
    """Make ``metrics.jsonl`` tell what the checkpoint knows, each merged round once.

    After a crash it cuts a torn last line and adds merged rounds that the file lacks. Where the checkpoint
    is an earlier one, restored by hand, rounds merged since are dropped: they are run, and told, again.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    known, there, kept = {record.round for record in history}, set(), []
    for line, row in ((line, json.loads(line)) for line in lines if line.endswith("\n")):
        if not row["merged"] or row["round"] in known - there:
            kept.append(line)
            there |= {row["round"]} if row["merged"] else set()
    lacking = [record.model_dump_json() + "\n" for record in history if record.round not in there]
    if [*kept, *lacking] != lines:
        write_whole(path, "".join([*kept, *lacking]).encode())


def read_metrics(path: Path) -> tuple[RoundRecord, ...]:
    """Read the records of ``metrics.jsonl``; none where there is no file.

    A last line without an end is still being written, and left aside.

    Raises:
        StateError: A line does not fit.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
    return tuple(
        parse(_json(line, f"{path}, line {at}"), RoundRecord, where=f"{path}, line {at}", error=StateError)
        for at, line in enumerate(lines, start=1)
        if line.endswith("\n")
    )


def _json(text: str, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise StateError(
            f"{where} is not valid JSON; restore it, or remove it to go on without it"
        ) from fault


def _path(folder: Path, number: int, ending: str) -> Path:
    return folder / f"checkpoint-{number:06d}.{ending}"


def _prune(folder: Path) -> None:
    kept = sorted(folder.glob("checkpoint-*.json"))[-_KEPT:]
    names = {path.stem for path in kept}
    for path in folder.glob("checkpoint-*"):
        if path.name.split(".")[0] not in names:
            path.unlink(missing_ok=True)


def _read_sheet(path: Path) -> _Sheet:
    try:
        signed = json.loads(path.read_bytes())
        text = signed["sheet"]
        sound = hashlib.sha256(text.encode()).hexdigest() == signed["sha256"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
        raise _damaged(path) from fault
    if not sound:
        raise _damaged(path)
    return parse(json.loads(text), _Sheet, where=str(path), error=StateError)


def _read_arrays(path: Path, wanted: str) -> dict[str, np.ndarray]:
    try:
        arrays = load_tensors(path.read_bytes())
    except Exception as fault:  # safetensors raises its own kind, which has no public base
        raise _damaged(path) from fault
    if digest(arrays) != wanted:
        raise _damaged(path)
    return arrays


def _damaged(path: Path) -> StateError:
    return StateError(
        f"{path} is damaged; restore it, or remove both files of this round to resume from the round before"
    )


def _joined(checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    joined = {f"model/{name}": value for name, value in checkpoint.model.items()}
    joined |= {f"released/{name}": value for name, value in checkpoint.released.items()}
    return {name: np.ascontiguousarray(value).reshape(value.shape) for name, value in joined.items()}


def _part(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
