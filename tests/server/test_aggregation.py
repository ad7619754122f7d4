"""Updates to the next model."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from willis.server.aggregation import ema, merge
from willis.shared.update import digest


def one(value) -> dict:
    return {"w": np.array([value], np.float32)}


def test_merge_by_hand():
    # weights 1 and 3: 10 + (1 * 2 + 3 * 6) / 4 = 15
    merged = merge(one(10), {"a": one(2), "b": one(6)}, weights={"a": 1.0, "b": 3.0, "c": 5.0})
    assert merged["w"] == np.float32(15)


def test_weights_are_renormalised_over_those_who_answered():
    assert merge(one(10), {"b": one(6)}, weights={"a": 1.0, "b": 3.0})["w"] == np.float32(16)


def test_the_order_of_arrival_does_not_change_a_bit():
    # In float64 1e30 + 1 - 1e30 is 0, and 1e30 - 1e30 + 1 is 1: a sum in order of arrival would differ.
    answers = {"a": one(1e30), "b": one(1.0), "c": one(-1e30), "d": one(0.1)}
    weights = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1 / 3}
    orders = [dict(items) for items in itertools.permutations(answers.items())]
    assert len({digest(merge(one(0), order, weights=weights)) for order in orders}) == 1


@given(st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=5), st.floats(0.1, 10))
def test_equal_weights_give_the_mean(values, weight):
    answers = {f"s{i}": one(value) for i, value in enumerate(values)}
    merged = merge(one(0), answers, weights=dict.fromkeys(answers, weight))
    assert merged["w"][0] == pytest.approx(np.mean(values), abs=1e-4)


def test_integers_stay_as_they_are():
    model = one(1) | {"n": np.array(7), "flag": np.array([True])}
    merged = merge(model, {"a": one(1)}, weights={"a": 1.0})
    assert merged["n"] == 7
    assert merged["n"].dtype == model["n"].dtype
    assert merged["n"] is not model["n"]
    assert merged["flag"].dtype == bool
    assert merged["w"].dtype == np.float32


def test_nobody_answered():
    with pytest.raises(ValueError, match="no site"):
        merge(one(1), {}, weights={})


@pytest.mark.parametrize("weight", [0.0, -1.0, math.nan, math.inf])
def test_a_senseless_weight_is_refused(weight):
    with pytest.raises(ValueError, match="weight of site a"):
        merge(one(1), {"a": one(1)}, weights={"a": weight})


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_merge_that_overflows_is_refused():
    with pytest.raises(ValueError, match="not finite"):
        merge(one(3e38), {"a": one(3e38)}, weights={"a": 1.0})


def test_ema_by_hand():
    # 0.75 * 4 + 0.25 * 8 = 5
    mixed = ema(one(4) | {"n": np.array(1)}, one(8) | {"n": np.array(2)}, decay=0.75)
    assert mixed["w"] == np.float32(5)
    assert mixed["n"] == 2


def test_ema_without_memory_is_the_model():
    assert digest(ema(one(4), one(8), decay=0.0)) == digest(one(8))


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_senseless_decay_is_refused(decay):
    with pytest.raises(ValueError, match="decay"):
        ema(one(1), one(1), decay=decay)
