"""One holder at a time, and a lock that goes with its holder, however that ends."""

import subprocess
import sys
from pathlib import Path

import pytest

from willis.shared.errors import StateError
from willis.shared.lock import held_alone, is_held


def test_a_second_holder_is_refused_in_the_words_given_and_the_next_is_not(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    assert not is_held(lock)
    with held_alone(lock, "one of us"):
        assert is_held(lock)
        with pytest.raises(StateError, match="one of us"), held_alone(lock, "one of us"):
            pytest.fail("held twice")
        assert is_held(lock)
    assert not is_held(lock)
    with held_alone(lock, "one of us"):
        assert is_held(lock)


def test_an_error_inside_lets_go(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="inside"), held_alone(tmp_path / "lock", "held"):
        raise ValueError("inside")
    assert not is_held(tmp_path / "lock")


def test_a_killed_holder_holds_no_more(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from willis.shared.lock import held_alone\n"
        "with held_alone(Path(sys.argv[1]), 'held'): print('here', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path / "lock")], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "here\n"
        assert is_held(tmp_path / "lock")
        holder.kill()
    assert not is_held(tmp_path / "lock")
