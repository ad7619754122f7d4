"""Which updates are sound enough to count."""

import numpy as np
import pytest

from willis.server.admission import (
    Reason,
    UnsoundUpdate,
    admit_precision,
    check_origin,
    check_sum,
    check_update,
)
from willis.shared.privacy import PrivacyBudget, PrivacySpent, PrivacyUnit, Relation
from willis.shared.update import SiteAnswer

MODEL = {"w": np.zeros((2, 2), np.float32), "b": np.zeros(1, np.float32), "n": np.array(3)}
SPENT = PrivacySpent(
    epsilon=1.0, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)

BUDGET = PrivacyBudget(epsilon=3.0, delta=1e-3, unit=PrivacyUnit.SUBJECT)


def check(arrays, *, max_norm=10.0, **fields) -> None:
    given = {"site": "north", "round": 2, "order_digest": "a" * 64, "spent": SPENT} | fields
    answer = SiteAnswer(arrays=arrays, ledger_head="", **given)
    check_origin(answer, site="north", number=2, order_digest="a" * 64, budget=BUDGET)
    check_update(arrays, like=MODEL, max_norm=max_norm)


def sound(**changes) -> dict:
    return {"w": np.ones((2, 2), np.float32), "b": np.zeros(1, np.float32)} | changes


def test_a_sound_update_passes():
    check(sound())


def test_the_norm_may_pass_the_bound_by_rounding_only():
    # |w| = sqrt(4) = 2
    check(sound(), max_norm=2.0 / (1 + 0.9e-5))
    with pytest.raises(UnsoundUpdate) as caught:
        check(sound(), max_norm=2.0 / (1 + 1.2e-5))
    assert caught.value.recorded == "update-norm"


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (sound(w=np.array([[1, np.nan], [0, 0]], np.float32)), Reason.NOT_FINITE),
        (sound(w=np.array([[1, np.inf], [0, 0]], np.float32)), Reason.NOT_FINITE),
        (sound(w=np.ones(4, np.float32)), Reason.SHAPE),
        (sound(w=np.ones((2, 2))), Reason.DTYPE),
        (sound(w=np.ones((2, 2), np.int32)), Reason.DTYPE),
        (sound(w=[[1.0, 1.0], [1.0, 1.0]]), Reason.DTYPE),
        (sound(other=np.ones(1, np.float32)), Reason.NAMES),
        (sound(n=np.array(4)), Reason.NAMES),
        ({"w": np.ones((2, 2), np.float32)}, Reason.NAMES),
        ({}, Reason.NAMES),
        (sound(b=np.array([11.0], np.float32)), Reason.NORM),
        (sound(b=np.array([3e38], np.float32)), Reason.NORM),
    ],
)
def test_an_unsound_update_is_refused(arrays, reason):
    with pytest.raises(UnsoundUpdate) as caught:
        check(arrays)
    assert caught.value.reason is reason
    assert caught.value.code == "update"


def test_no_norm_passes_a_bound_that_is_not_a_number():
    with pytest.raises(UnsoundUpdate, match="norm"):
        check(sound(), max_norm=float("nan"))


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"site": "south"}, Reason.SITE),
        ({"round": 1}, Reason.ROUND),
        ({"order_digest": "b" * 64}, Reason.ORDER),
        ({"spent": SPENT.model_copy(update={"delta": 1e-2})}, Reason.SPENT),
        ({"spent": SPENT.model_copy(update={"unit": PrivacyUnit.PATCH})}, Reason.SPENT),
    ],
)
def test_an_answer_to_something_else_is_refused(fields, reason):
    with pytest.raises(UnsoundUpdate) as caught:
        check(sound(), **fields)
    assert caught.value.reason is reason


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"sum": np.ones(4, np.float32)}, Reason.SHAPE),
        ({"sum": np.ones(3)}, Reason.DTYPE),
        ({"sum": np.full(3, np.nan, np.float32)}, Reason.NOT_FINITE),
        ({"sum": np.full(3, 2.0, np.float32)}, Reason.NORM),  # sqrt(12) > 2
        ({"w": np.ones(3, np.float32)}, Reason.NAMES),
    ],
)
def test_a_sum_of_another_kind_is_refused(arrays, reason):
    with pytest.raises(UnsoundUpdate) as caught:
        check_sum(arrays, length=3, max_norm=2.0)
    assert caught.value.reason is reason


def test_a_sound_sum_passes():
    check_sum({"sum": np.ones(3, np.float32)}, length=3, max_norm=2.0)  # sqrt(3) < 2


HALF = {"federation": {"precision": "float16", "update_norm": 10.0}}


@pytest.mark.parametrize(
    ("precision", "value"),
    [
        ("float16", np.ones(2, np.float32)),
        ("float16", np.ones(2, np.int16)),
        ("float16", np.ones(2, np.dtype(">f2"))),
        ("float16", [1.0, 1.0]),
        ("float32", np.ones(2, np.float16)),
    ],
)
def test_what_travelled_in_another_precision_than_the_studys_is_refused(tiny_study, precision, value):
    study = tiny_study(federation={"precision": precision})
    with pytest.raises(UnsoundUpdate, match=f"w: must be {precision}, got") as caught:
        admit_precision({"w": value}, study, site="site-a")
    assert caught.value.recorded == "update-dtype"


def test_half_precision_is_widened_before_it_is_checked_and_merged(tiny_study):
    # the largest move is 10 < 2^4 and travels as 2^15, so 2^11 on the wire is a move of 1
    arrays = admit_precision(
        {name: (value * 2**11).astype(np.float16) for name, value in sound().items()},
        tiny_study(**HALF),
        site="site-a",
    )
    assert {value.dtype for value in arrays.values()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(arrays["w"], sound()["w"])
    check_update(arrays, like=MODEL, max_norm=10.0)


@pytest.mark.parametrize(("number", "reason"), [(np.inf, Reason.NOT_FINITE), (65504.0, Reason.NORM)])
def test_half_precision_hides_nothing_from_the_checks(tiny_study, number, reason):
    half = {name: value.astype(np.float16) for name, value in sound(b=np.array([number])).items()}
    arrays = admit_precision(half, tiny_study(**HALF), site="site-a")
    with pytest.raises(UnsoundUpdate) as caught:
        check_update(arrays, like=MODEL, max_norm=10.0)
    assert caught.value.reason is reason
