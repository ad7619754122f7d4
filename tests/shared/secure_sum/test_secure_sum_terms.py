"""The terms of a secure sum: which fit, and what changes their digest."""

import pytest
from harness.sum_terms import SITES, terms
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from willis.shared.secure_sum.terms import SumTerms, least_quorum


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sites": SITES[::-1]}, "sorted"),
        ({"sites": ("a", "a", "b")}, "sorted"),
        ({"quorum": 5}, "at most the 4 sites"),
        ({"colluders": 3}, "fewer than the quorum 3"),
        ({"quorum": 2, "colluders": 0}, "at least 3 of 4 sites"),
        ({"colluders": 2}, "at least 4 of 4 sites"),
        ({"noise_multiplier": float("nan")}, "finite"),
        ({"clip_norm": 0.0}, "greater than"),
    ],
)
def test_terms_that_do_not_fit_are_refused(changes, fault):
    with pytest.raises(ValidationError, match=fault):
        terms(**changes)


@given(st.integers(2, 30), st.integers(0, 29))
def test_two_lists_of_survivors_cannot_both_be_signed(n, colluders):
    # Each honest site signs one list, each colluder both: 2 quorums of signatures are more than there are.
    if colluders >= n:
        with pytest.raises(ValueError, match="fewer colluders"):
            least_quorum(n, colluders=colluders)
        return
    quorum = least_quorum(n, colluders=colluders)
    most = (n - colluders) + 2 * colluders
    assert 2 * quorum > most
    assert quorum == 2 or 2 * (quorum - 1) <= most


def test_every_term_changes_the_digest():
    changes = {
        "run": "run-2",
        "round": 2,
        "attempt": 2,
        "order_digest": "1" * 64,
        "sites": ("east", "north", "south", "wext"),
        "quorum": 4,
        "colluders": 0,
        "length": 21,
        "clip_norm": 1.5,
        "noise_multiplier": 2.5,
        "units": 99,
    }
    assert set(changes) == set(SumTerms.model_fields)
    digests = {terms(**{key: value}).digest() for key, value in changes.items()}
    assert len(digests | {terms().digest()}) == len(changes) + 1
