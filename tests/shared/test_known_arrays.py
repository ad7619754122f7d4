"""What need not travel: arrays named by digest, and what is lacking is told."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as any_array

from willis.shared.errors import OrderIncomplete, StudyError
from willis.shared.known_arrays import completed, digests_of, what_changed

OLD = {"still": np.arange(6, dtype=np.float32).reshape(2, 3), "moved": np.zeros(4, np.float32)}
NEW = {**OLD, "moved": np.ones(4, np.float32)}


def test_what_stands_still_does_not_travel_by_hand():
    sent, kept = what_changed(NEW, digests_of(OLD))
    assert list(sent) == ["moved"]
    assert list(kept) == ["still"]
    whole = completed(sent, kept, OLD)
    assert set(whole) == {"still", "moved"}
    np.testing.assert_array_equal(whole["still"], OLD["still"])
    np.testing.assert_array_equal(whole["moved"], 1)


def test_a_site_that_holds_nothing_gets_everything():
    sent, kept = what_changed(NEW, {})
    assert (set(sent), kept) == ({"still", "moved"}, {})


names = st.text("abc", min_size=1, max_size=2)
models = st.dictionaries(
    names, any_array(np.float32, (2,), elements=st.sampled_from([0.0, 1.0, -1.0])), max_size=5
)


@given(models, models)
def test_whatever_changed_the_order_comes_back_whole(old, new):
    sent, kept = what_changed(new, digests_of(old))
    whole = completed(sent, kept, old)
    assert digests_of(whole) == digests_of(new)
    assert not sent.keys() & kept.keys()


@pytest.mark.parametrize(
    "held",
    [
        {},
        {"still": np.ones((2, 3), np.float32)},  # of another round
        {"still": OLD["still"].astype(np.float64)},
        {"still": OLD["still"].reshape(3, 2)},
    ],
)
def test_a_site_that_holds_something_else_says_so(held):
    sent, kept = what_changed(NEW, digests_of(OLD))
    with pytest.raises(OrderIncomplete, match="does not hold 1 arrays") as caught:
        completed(sent, kept, held)
    assert caught.value.code == "incomplete"


@pytest.mark.parametrize("kept", [["still"], {"still": 3}, {"still": "../x"}, {"moved": "0" * 64}, "still"])
def test_a_table_that_does_not_fit_is_refused(kept):
    with pytest.raises(StudyError, match="no table of names and digests"):
        completed({"moved": NEW["moved"]}, kept, OLD)
