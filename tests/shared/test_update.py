"""What travels: headers, digests, norms and the clipped difference."""

import hashlib
import json
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from willis.shared.errors import StudyError, UpdateRefused
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.update import (
    REFUSAL_CODES,
    RoundOrder,
    SiteAnswer,
    arrays_from_state,
    check_model,
    clip_update,
    difference,
    digest,
    floating,
    norm,
    state_from_arrays,
)

SPENT = PrivacySpent(
    epsilon=1.5, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)
finite = st.floats(-(2.0**100), 2.0**100, width=32, allow_subnormal=False)
float_arrays = st.dictionaries(
    st.sampled_from(["a", "b", "c"]),
    hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=4), elements=finite),
    min_size=1,
)


def order(**changes) -> RoundOrder:
    fields = {
        "study_json": "{}",
        "study_digest": "0" * 64,
        "run": "run-1",
        "round": 1,
        "arrays": {"w": np.ones(2, np.float32)},
    }
    return RoundOrder(**(fields | changes))


def answer(**changes) -> SiteAnswer:
    fields = {
        "arrays": {"w": np.ones(2, np.float32)},
        "site": "north",
        "round": 1,
        "order_digest": "0" * 64,
        "spent": SPENT,
        "ledger_head": "ab12",
    }
    return SiteAnswer(**(fields | changes))


def test_norm_by_hand():
    # 3^2 + 4^2 + 12^2 = 169
    assert norm({"a": np.array([3.0, 4.0], np.float32), "b": np.array([[12.0]], np.float32)}) == 13.0


def test_norm_does_not_overflow_where_float32_would():
    assert norm({"a": np.full(4, 1e30, np.float32)}) == pytest.approx(2e30, rel=1e-6)


def test_clip_by_hand():
    # |(3, 4)| = 5 and the bound is 1, so both are scaled by 1/5.
    clipped = clip_update({"a": np.array([3.0, 4.0], np.float32)}, 1.0)
    np.testing.assert_allclose(clipped["a"], [0.6, 0.8], rtol=1e-6)


@given(float_arrays, st.floats(1e-3, 1e3))
def test_clipped_norm_is_within_the_bound_even_after_rounding(arrays, max_norm):
    assert norm(clip_update(arrays, max_norm)) <= max_norm


@given(float_arrays)
def test_what_is_within_the_bound_is_unchanged(arrays):
    clipped = clip_update(arrays, max(norm(arrays), 1e-3))
    assert digest(clipped) == digest(arrays)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_clipping_refuses_what_is_not_finite(bad):
    with pytest.raises(UpdateRefused, match="1 numbers"):
        clip_update({"a": np.array([1.0, bad], np.float32)}, 1.0)


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan, math.inf])
def test_clipping_refuses_a_senseless_bound(bound):
    with pytest.raises(ValueError, match="max_norm"):
        clip_update({"a": np.zeros(1, np.float32)}, bound)


def test_a_zero_update_stays_zero():
    assert norm(clip_update({"a": np.zeros(3, np.float32)}, 1.0)) == 0.0


def test_digest_agrees_with_the_recipe_written_out():
    recipe = b""
    for part in (b"w", b"<f4", b"(2,)", np.array([1, 2], "<f4").tobytes()):
        recipe += len(part).to_bytes(8, "big") + part
    assert digest({"w": np.array([1, 2], np.float32)}) == hashlib.sha256(recipe).hexdigest()


def test_digest_sees_names_shapes_types_and_values_and_nothing_else():
    base = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(1, np.float32)}
    others = [
        {"a2": base["a"], "b": base["b"]},
        {"a": base["a"].reshape(3, 2), "b": base["b"]},
        {"a": base["a"].astype(np.float64), "b": base["b"]},
        {"a": base["a"] + 1, "b": base["b"]},
        {"a": base["a"]},
    ]
    assert len({digest(base), *map(digest, others)}) == 6
    same = {"b": base["b"].astype(">f4"), "a": np.asfortranarray(base["a"])}
    assert digest(same) == digest(base)


def test_a_name_cannot_borrow_from_its_neighbour():
    one = {"ab": np.zeros(0, np.float32), "c": np.zeros(0, np.float32)}
    other = {"a": np.zeros(0, np.float32), "bc": np.zeros(0, np.float32)}
    assert digest(one) != digest(other)


def test_state_dict_there_and_back():
    first = torch.nn.Linear(3, 2)
    network = torch.nn.Sequential(first, torch.nn.BatchNorm1d(2))
    arrays = arrays_from_state(network.state_dict())
    back = state_from_arrays(arrays)
    assert all(torch.equal(back[name], value) for name, value in network.state_dict().items())
    with torch.no_grad():
        first.weight.add_(1.0)
    assert not torch.equal(back["0.weight"], network.state_dict()["0.weight"]), "copies, not views"


def test_difference_takes_floating_arrays_only():
    before = {"w": np.array([1.0], np.float32), "n": np.array(3)}
    after = {"w": np.array([1.5], np.float32), "n": np.array(4)}
    moved = difference(after, before)
    assert list(moved) == ["w"]
    assert moved["w"] == np.float32(0.5)
    assert moved["w"].dtype == np.float32
    assert list(floating(before)) == ["w"]


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"w": np.ones(2)}, "float64"),
        ({"w": np.array([1, np.nan], np.float32)}, "finite"),
        ({"n": np.ones(2, int)}, "floating"),
        ({}, "0 arrays"),
    ],
)
def test_a_model_that_cannot_be_run_is_refused(arrays, told):
    with pytest.raises(ValueError, match=told):
        check_model(arrays)


def test_an_order_travels_and_keeps_its_digest():
    sent = order(arrays={"w": np.array([1.0, -2.0], np.float32)})
    assert RoundOrder.read(sent.header(), sent.arrays).digest() == sent.digest()


@pytest.mark.parametrize(
    "change",
    [
        {"study_json": "{ }"},
        {"study_digest": "1" * 64},
        {"run": "run-2"},
        {"round": 2},
        {"arrays": {"w": np.zeros(2, np.float32)}},
    ],
)
def test_an_orders_digest_covers_all_of_it(change):
    assert order(**change).digest() != order().digest()


@pytest.mark.parametrize(
    "change", [{"run": "../../etc"}, {"run": ""}, {"round": 0}, {"study_digest": "short"}]
)
def test_an_order_that_does_not_fit_is_refused(change):
    with pytest.raises(StudyError, match="order"):
        order(**change)


def test_an_answer_travels():
    sent = answer()
    got = SiteAnswer.read(sent.header(), sent.arrays)
    assert (got.site, got.round, got.spent, got.ledger_head) == ("north", 1, SPENT, "ab12")


@pytest.mark.parametrize(
    "header",
    [
        "",
        "[]",
        "[" * 8000,
        '{"site": "north"}',
        json.dumps(json.loads(answer().header()) | {"site": "Surname, Given"}),
        json.dumps(json.loads(answer().header()) | {"more": 1}),
        answer().header().replace("1.5", "NaN"),
        answer().header() + " " * 10_000,
    ],
)
def test_a_header_that_is_not_an_answers_is_refused(header):
    with pytest.raises(UpdateRefused, match="answer"):
        SiteAnswer.read(header, {})


def test_an_answer_refuses_to_send_what_does_not_fit():
    with pytest.raises(UpdateRefused, match="ledger_head"):
        answer(ledger_head="/pacs/SURNAME_GIVEN").header()


def test_refusal_codes_are_those_of_the_tree():
    assert {"internal", "study", "cohort", "budget", "site-refuses", "quorum", "update"} <= REFUSAL_CODES
