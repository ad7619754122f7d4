"""Programs that are kept running: order, restarts, logs, and that nothing outlives its keeper."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from willis.shared.processes import (
    Keeper,
    Program,
    end_family,
    flower_environment,
    free_port,
    launch,
    script,
    until_asked_to_stop,
)


@pytest.fixture
def program(tmp_path):
    """A program of a few lines of Python."""

    def make(code: str, *, name: str = "program", ready=None) -> Program:
        command = (sys.executable, "-u", "-c", code)
        return Program(name, command, dict(os.environ), tmp_path / "logs" / f"{name}.jsonl", ready=ready)

    return make


def wait_for(true, *, seconds: float = 20.0) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_programs_start_in_order_each_once_the_one_before_is_ready(program, tmp_path):
    mark = tmp_path / "mark"
    first = program(
        f"import time, pathlib; time.sleep(0.3); pathlib.Path({str(mark)!r}).touch(); time.sleep(60)",
        name="first",
        ready=mark.exists,
    )
    second = program(
        f"import os; print(os.path.exists({str(mark)!r})); import time; time.sleep(60)", name="second"
    )
    keeper = Keeper([first, second])
    try:
        keeper.start()
        wait_for(second.log.exists)
        wait_for(lambda: second.log.read_text())
        assert json.loads(second.log.read_text().splitlines()[0])["text"] == "True"
        assert set(keeper.states()) == {"first", "second"}
    finally:
        keeper.stop()


def test_one_that_is_never_ready_stops_all_and_says_where_its_log_is(program):
    steady = program("import time; time.sleep(60)", name="steady")
    broken = program("import sys; sys.exit(3)", name="broken", ready=lambda: False)
    keeper = Keeper([steady, broken])
    with pytest.raises(TimeoutError, match=r"broken ended with 3; its log is .*broken\.jsonl"):
        keeper.start(patience_s=10)
    assert keeper.states() == {}


def test_a_killed_program_comes_back_and_the_fall_is_told(program):
    ended: list[tuple[str, int]] = []
    keeper = Keeper(
        [program("import time; time.sleep(60)")], on_end=lambda name, status: ended.append((name, status))
    )
    stop = threading.Event()
    thread = threading.Thread(target=keeper.run, args=(stop,), kwargs={"every_s": 0.02})
    try:
        keeper.start()
        first = keeper.states()["program"]["pid"]
        assert isinstance(first, int)
        thread.start()
        os.kill(first, signal.SIGKILL)
        wait_for(lambda: keeper.states().get("program", {}).get("restarts") == 1)
        again = keeper.states()["program"]["pid"]
        assert again not in (None, first)
        assert ended == [("program", -signal.SIGKILL)]
    finally:
        stop.set()
        thread.join(20)
    assert not alive(int(str(again)))


def test_restarts_wait_longer_each_time(program):
    keeper = Keeper([program("raise SystemExit(1)")])
    started = time.monotonic()
    try:
        keeper.start()
        while keeper.states()["program"]["restarts"] != 2:
            assert time.monotonic() < started + 30
            keeper.look()
            time.sleep(0.01)
    finally:
        keeper.stop()
    assert time.monotonic() - started >= 0.5 + 1.0


def test_what_a_program_started_ends_with_it_even_in_a_session_of_its_own(program, tmp_path):
    told = tmp_path / "pid"
    code = (
        "import subprocess, sys, time, pathlib\n"
        "sleep = [sys.executable, '-c', 'import time; time.sleep(60)'];"
        "child = subprocess.Popen(sleep, start_new_session=True);"
        f"pathlib.Path({str(told)!r}).write_text(str(child.pid)); time.sleep(60)"
    )
    process = launch(program(code))
    wait_for(lambda: told.exists() and told.read_text())
    child = int(told.read_text())
    assert alive(child)
    end_family(process)
    assert not alive(child)
    assert process.poll() is not None


def test_a_program_that_ignores_the_question_is_killed(program):
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(60)"
    deaf = program(code)
    process = launch(deaf)
    wait_for(lambda: deaf.log.exists() and "deaf" in deaf.log.read_text())
    end_family(process, patience_s=0.5)
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_program_ends_when_its_keeper_is_killed(tmp_path):
    keeper = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys, os, time; from pathlib import Path\n"
            "from willis.shared.processes import Program, launch\n"
            "sleep = (sys.executable, '-c', 'import time; time.sleep(60)')\n"
            f"p = launch(Program('p', sleep, dict(os.environ), Path({str(tmp_path / 'log')!r})))\n"
            "print(p.pid, flush=True); time.sleep(60)",
        ],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert keeper.stdout is not None
    child = int(keeper.stdout.readline())
    assert alive(child)
    keeper.kill()
    keeper.wait()
    wait_for(lambda: not alive(child))


def test_lines_become_json_and_json_stays_as_it_is(program):
    both = program("print('plain words'); print('{\"code\": \"budget\"}')")
    process = launch(both)
    process.wait()
    wait_for(lambda: both.log.exists() and len(both.log.read_text().splitlines()) == 2)
    plain, already = map(json.loads, both.log.read_text().splitlines())
    assert (plain["from"], plain["text"]) == ("program", "plain words")
    assert already == {"code": "budget"}


def test_a_long_log_is_turned_once(program, tmp_path, monkeypatch):
    monkeypatch.setattr("willis.shared.processes._MOST_LOG_BYTES", 200)
    wordy = program("[print('word ' * 10) for _ in range(20)]")
    process = launch(wordy)
    process.wait()
    old = wordy.log.with_name("program.jsonl.1")
    wait_for(lambda: old.exists() and wordy.log.exists())
    assert wordy.log.stat().st_size < 400
    assert old.stat().st_size < 400


def test_flower_is_told_to_keep_quiet(tmp_path):
    environment = flower_environment(tmp_path)
    assert environment["FLWR_TELEMETRY_ENABLED"] == "0"
    assert environment["FLWR_DISABLE_UPDATE_CHECK"] == "1"
    assert environment["FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"] == "1"
    assert environment["FLWR_HOME"] == str(tmp_path.resolve())


def test_a_stop_event_is_set_by_sigterm_and_handlers_come_back():
    before = signal.getsignal(signal.SIGTERM)
    with until_asked_to_stop() as stop:
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.wait(5)
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_free_port_is_free_and_a_script_is_there():
    assert 1024 <= free_port() <= 65535
    assert Path(script("willis")).exists()


def test_a_log_that_cannot_be_written_does_not_stall_the_program(program, tmp_path):
    done = tmp_path / "done"
    code = "import pathlib; [print('word ' * 100) for _ in range(2000)];"
    wordy = program(f"{code} pathlib.Path({str(done)!r}).touch()")
    wordy.log.mkdir(parents=True)  # a folder where the log should be
    process = launch(wordy)
    assert process.wait(20) == 0
    assert done.exists()
