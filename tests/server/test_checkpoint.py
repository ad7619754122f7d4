"""A crash at any moment leaves the round before."""

import errno
import os
import signal
from pathlib import Path

import numpy as np
import pytest

from willis.server.checkpoint import (
    Checkpoint,
    RoundRecord,
    add_metrics,
    latest_round,
    load,
    mend_metrics,
    read_metrics,
    save,
)
from willis.shared.errors import StateError
from willis.shared.update import digest

STUDY = "a" * 64


def record(number: int) -> RoundRecord:
    return RoundRecord(
        round=number,
        merged=True,
        answered=("north",),
        refused={"south": "deadline"},
        strangers={},
        norms={"north": 0.1},
        spent={},
        seconds=0.5,
    )


def state(number: int) -> Checkpoint:
    model = {"w": np.full((2, 3), number, np.float32), "n": np.array(number), "flag": np.array([True])}
    return Checkpoint(
        study_digest=STUDY,
        run="run-1",
        round=number,
        model=model,
        released={"w": model["w"] / 2, "n": model["n"], "flag": model["flag"]},
        history=tuple(record(i + 1) for i in range(number)),
    )


def test_there_and_back(tmp_path):
    save(tmp_path, state(3))
    back = load(tmp_path, study_digest=STUDY)
    assert digest(back.model) == digest(state(3).model)
    assert digest(back.released) == digest(state(3).released)
    assert (back.round, back.run, back.history) == (3, "run-1", state(3).history)


def test_the_newest_two_are_kept(tmp_path):
    for number in range(4):
        save(tmp_path, state(number))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        f"checkpoint-00000{number}.{ending}" for number in (2, 3) for ending in ("json", "safetensors")
    ]


def test_an_empty_folder_has_nothing_to_resume(tmp_path):
    assert latest_round(tmp_path) is None
    with pytest.raises(StateError, match="nothing to resume"):
        load(tmp_path, study_digest=STUDY)


def test_another_study_is_refused(tmp_path):
    save(tmp_path, state(1))
    with pytest.raises(StateError, match="bbbbbbbbbbbb"):
        load(tmp_path, study_digest="b" * 64)


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
@pytest.mark.parametrize("which", ["safetensors", "json"])
def test_disk_full_leaves_the_round_before(tmp_path, monkeypatch, failing, which):
    save(tmp_path, state(1))
    full = OSError(errno.ENOSPC, "No space left on device")
    target = f"checkpoint-000002.{which}"
    if failing == "write":
        opened = Path.open

        def open_(path, *args, **kwargs):
            if path.name.startswith(target):
                raise full
            return opened(path, *args, **kwargs)

        monkeypatch.setattr(Path, "open", open_)
    elif failing == "fsync":
        calls = iter(range(10))
        synced = os.fsync
        turn = 0 if which == "safetensors" else 2  # each file syncs itself, then its folder

        def fsync(handle):
            if next(calls) == turn:
                raise full
            synced(handle)

        monkeypatch.setattr(os, "fsync", fsync)
    else:
        moved = os.replace

        def replace(old, new):
            if Path(new).name == target:
                raise full
            moved(old, new)

        monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(StateError, match="No space left"):
        save(tmp_path, state(2))
    monkeypatch.undo()
    assert load(tmp_path, study_digest=STUDY).round == 1
    assert not list(tmp_path.glob("*.part"))
    save(tmp_path, state(2))
    assert load(tmp_path, study_digest=STUDY).round == 2


@pytest.mark.parametrize("killed_at", range(6))
def test_kill_in_the_middle_of_a_write_leaves_the_round_before(tmp_path, killed_at):
    """A child process is killed for good at its n-th sync or rename: f d (rename) f d (rename)."""
    save(tmp_path, state(1))
    child = os.fork()
    if child == 0:
        calls = iter(range(100))

        def dying(real):
            def call(*args):
                if next(calls) == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                return real(*args)

            return call

        os.fsync, os.replace = dying(os.fsync), dying(os.replace)
        save(tmp_path, state(2))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WTERMSIG(status) == signal.SIGKILL
    # Calls 0..5 are sync, rename, sync folder of the tensors, then of the sheet, whose rename commits.
    expected = 2 if killed_at == 5 else 1
    back = load(tmp_path, study_digest=STUDY)
    assert back.round == expected
    assert digest(back.model) == digest(state(expected).model)
    save(tmp_path, state(2))
    assert load(tmp_path, study_digest=STUDY).round == 2
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.parametrize("ending", ["json", "safetensors"])
@pytest.mark.parametrize("how", ["flip", "cut", "remove"])
def test_damage_is_seen(tmp_path, ending, how):
    save(tmp_path, state(1))
    path = tmp_path / f"checkpoint-000001.{ending}"
    data = path.read_bytes()
    if how == "flip":
        at = data.index(b"run-1") if ending == "json" else len(data) - 2
        path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    elif how == "cut":
        path.write_bytes(data[: len(data) // 2])
    else:
        path.unlink()
    with pytest.raises(StateError, match=r"damaged|nothing to resume"):
        load(tmp_path, study_digest=STUDY)


def test_metrics_are_mended(tmp_path):
    path = tmp_path / "metrics.jsonl"
    add_metrics(path, record(1))
    with path.open("a") as file:
        file.write('{"round": 2, "mer')
    mend_metrics(path, state(3).history)
    rows = [RoundRecord.model_validate_json(line) for line in path.read_text().splitlines()]
    assert rows == [record(1), record(2), record(3)]


def test_rounds_merged_since_a_checkpoint_that_was_restored_are_told_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    missed = record(2).model_copy(update={"merged": False})
    for one in (record(1), missed, record(2), record(3)):
        add_metrics(path, one)
    mend_metrics(path, state(2).history)
    assert read_metrics(path) == (record(1), missed, record(2))
    before = path.stat().st_ino
    mend_metrics(path, state(2).history)
    assert path.stat().st_ino == before, "what is whole is not written again"


def test_metrics_that_cannot_be_written(tmp_path):
    with pytest.raises(StateError, match="cannot write"):
        add_metrics(tmp_path / "nowhere" / "metrics.jsonl", record(1))
