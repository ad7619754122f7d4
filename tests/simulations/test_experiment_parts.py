"""Parts of an experiment: made once, timed, taken up again after a kill."""

import time

import numpy as np
import pytest

from willis.shared.errors import StateError
from willis.simulations.experiments.parts import kept_arrays, kept_values, seconds_of, timed


def test_a_part_is_made_once(tmp_path):
    made = []

    def values() -> dict:
        made.append(1)
        return {"a": [1.5, None]}

    assert kept_values(tmp_path, "x/y", values) == kept_values(tmp_path, "x/y", values) == {"a": [1.5, None]}
    arrays = {"w": np.arange(3, dtype=np.float32)}
    for _ in range(2):
        held = kept_arrays(tmp_path, "z", lambda: made.append(2) or arrays)
        assert np.array_equal(held["w"], arrays["w"])
    assert made == [1, 2]
    assert set(seconds_of(tmp_path)) == {"x/y", "z"}


def test_time_is_told_by_the_clock_and_by_the_processor_and_adds_up(tmp_path):
    for _ in range(2):
        with timed(tmp_path, "sleeps"):
            time.sleep(0.2)
    with timed(tmp_path, "works"):
        until = time.process_time() + 0.2
        while time.process_time() < until:
            pass
    took = seconds_of(tmp_path)
    assert took["sleeps"]["clock"] >= 0.4
    assert took["sleeps"]["processor"] < 0.2, "it slept"
    assert 0.15 <= took["works"]["processor"] <= took["works"]["clock"] + 0.1, "ticks of a hundredth"


def test_a_part_that_was_not_finished_is_made_again_and_a_damaged_one_refused(tmp_path):
    def killed() -> dict:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        kept_values(tmp_path, "x", killed)
    assert kept_values(tmp_path, "x", lambda: 1) == 1
    (tmp_path / "parts" / "x.json").write_text("{")
    with pytest.raises(StateError, match=r"x\.json is damaged; remove it"):
        kept_values(tmp_path, "x", lambda: 1)
    (tmp_path / "parts" / "y.npz").write_bytes(b"PK")
    with pytest.raises(StateError, match=r"y\.npz is damaged"):
        kept_arrays(tmp_path, "y", dict)
    with pytest.raises(ValueError, match=r"must lie within the folder"):
        kept_values(tmp_path, "../x", lambda: 1)
