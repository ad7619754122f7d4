"""Half precision on the wire: how much it rounds, what it refuses, and that full precision is as it was."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from willis.shared.errors import StudyError
from willis.shared.study import parse_study
from willis.shared.update import SUM, clip_update, norm
from willis.shared.wire_precision import bound_before_rounding, narrowed, widened

HALF = {"federation": {"precision": "float16", "update_norm": 10.0}}
POOLED = {"training": {"protocol": "pooled", "critic_steps": 1}}
# The largest move, 10 < 2^4, travels as 2^15; float16 is at full precision from 2^-14, here a move of 2^-25.
within = st.floats(2.0**-25, 10.0, width=32)
moves = hnp.arrays(
    np.float32, hnp.array_shapes(max_dims=2, max_side=5), elements=within | within.map(float.__neg__)
)


@given(moves)
def test_half_precision_is_exact_to_one_in_2048(tiny_study, moved):
    study = tiny_study(**HALF)
    sent = narrowed({"w": moved}, study, "site-a")
    assert sent["w"].dtype == np.float16
    back = widened(sent, study, "site-a")["w"]
    assert back.dtype == np.float32
    assert back.shape == moved.shape
    assert np.all(np.abs(back.astype(np.float64) - moved) <= 2.0**-11 * np.abs(moved.astype(np.float64)))


@given(hnp.arrays(np.float32, 4, elements=st.floats(-(2.0**-25), 2.0**-25, width=32)))
def test_what_is_too_small_for_that_is_off_by_next_to_nothing(tiny_study, moved):
    study = tiny_study(**HALF)
    back = widened(narrowed({"w": moved}, study, "site-a"), study, "site-a")["w"]
    assert np.all(np.abs(back - moved) <= 2.0**-39 * 10)


@given(moves)
def test_a_bounded_update_is_within_the_bound_after_rounding(tiny_study, moved):
    study = tiny_study(**HALF)
    clipped = clip_update({"w": moved}, bound_before_rounding(10.0, study))
    assert norm(widened(narrowed(clipped, study, "site-a"), study, "site-a")) <= 10.0


def test_full_precision_changes_nothing(tiny_study):
    arrays = {"w": np.array([1e-30, 3e38], np.float32)}
    study = tiny_study()
    assert narrowed(arrays, study, "site-a") is arrays
    assert widened(arrays, study, "site-a") is arrays
    assert bound_before_rounding(10.0, study) == 10.0


@pytest.mark.parametrize("number", [16 * 2.0, -16 * 2.0, math.nan, math.inf])
def test_what_half_precision_cannot_hold_is_refused_and_never_sent_as_infinite(tiny_study, number):
    # the largest move is 10 < 2^4, which travels as 2^15: float16 ends just below 2^5
    arrays = {"w": np.array([1.0, number], np.float32)}
    with pytest.raises(StudyError, match=r"w: 1 of 2 numbers are beyond 31\.98.*precision = \"float32\""):
        narrowed(arrays, tiny_study(**HALF), "site-a")


@pytest.mark.parametrize(("clip_norm", "unit"), [(1e-6, "subject"), (1e6, "subject"), (1.0, "patch")])
def test_private_sums_fit_half_precision_whatever_their_unit(tiny_study, clip_norm, unit):
    # Sums lie between the noise and what all units together can be: 6 subjects, or their 24 patches.
    study = tiny_study(
        **POOLED,
        federation={"precision": "float16"},
        privacy={"clip_norm": clip_norm, "unit": unit},
    )
    units = 24 if unit == "patch" else 6
    total = np.array([1e-3, -1.0, units, 2.0 * units], np.float32) * np.float32(clip_norm)
    back = widened(narrowed({SUM: total}, study, "site-a"), study, "site-a")[SUM]
    np.testing.assert_allclose(back, total, rtol=2.0**-11)


def test_half_precision_and_secure_sums_exclude_each_other(tiny_study):
    with pytest.raises(StudyError, match="whole 64-bit words") as caught:
        tiny_study(**POOLED, federation={"precision": "float16", "secure": {"colluders": 0}})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["federation"]


def test_the_precision_is_in_the_digest_only_where_it_is_not_the_default(tiny_study):
    plain, half = tiny_study(), tiny_study(federation={"precision": "float16"})
    assert "precision" not in json.loads(plain.model_dump_json())["federation"]
    assert tiny_study(federation={"precision": "float32"}).digest() == plain.digest()
    assert half.digest() != plain.digest()
    assert parse_study(half.model_dump_json(), where="the order's study") == half
    assert parse_study(plain.model_dump_json(), where="the order's study") == plain
