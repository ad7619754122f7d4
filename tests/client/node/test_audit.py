"""The audit log: append only, chained, private; a torn end is told, an altered line is found."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from willis.client.node.audit import AuditLog
from willis.shared.errors import StateError


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    log = AuditLog(tmp_path / "audit.jsonl")
    for number in range(3):
        log.append("left", run="7", round=str(number), bytes=number * 100, epsilon=0.5)
    return log


def test_what_is_written_is_read_back_in_order(log):
    lines = log.read()
    assert [line["round"] for line in lines] == ["0", "1", "2"]
    assert [line["previous"] for line in lines] == ["", lines[0]["hash"], lines[1]["hash"]]
    assert lines[2]["bytes"] == 200
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600


def test_no_log_is_an_empty_log(tmp_path):
    assert AuditLog(tmp_path / "audit.jsonl").read() == []


@pytest.mark.parametrize("alter", ["change", "remove", "insert", "garbage"])
def test_an_altered_log_is_found(log, alter):
    lines = log.path.read_text().splitlines()
    if alter == "change":
        lines[1] = lines[1].replace('"bytes": 100', '"bytes": 1')
    elif alter == "remove":
        del lines[1]
    elif alter == "insert":
        lines.insert(1, json.dumps({"event": "left", "previous": "", "hash": "0"}))
    else:
        lines[1] = "not JSON"
    log.path.write_text("\n".join(lines) + "\n")
    with pytest.raises(StateError, match="altered at line 2"):
        log.read()


def test_a_line_torn_by_a_loss_of_power_is_cut_off_and_told(log):
    log.path.write_bytes(log.path.read_bytes() + b'{"at": "2026')
    assert len(log.read()) == 3
    log.append("left", run="8")
    assert [(line["event"], line.get("bytes")) for line in log.read()[3:]] == [
        ("torn-line", 12),
        ("left", None),
    ]


def test_writers_at_once_keep_one_chain(log):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: AuditLog(log.path).append("left", round=str(number)), range(40)))
    assert len(log.read()) == 43


def test_a_log_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(StateError, match="cannot write the audit log"):
        AuditLog(tmp_path / "nowhere" / "audit.jsonl").append("left")


def test_half_a_line_is_an_error_and_cut_off_by_the_next(log, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda handle, line: write(handle, line[:10]))
    with pytest.raises(StateError, match="No space left"):
        log.append("leaving", run="7")
    monkeypatch.undo()
    log.append("leaving", run="8")
    assert [line["event"] for line in log.read()][-2:] == ["torn-line", "leaving"]
    assert log.read()[-1]["run"] == "8"
