"""A privacy figure's sentence: rounded up, complete, and honest about whose privacy it is."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from willis.shared.privacy import PrivacyBudget, PrivacySpent, PrivacyUnit, Relation, all_assumed


def spent(epsilon: float, **more) -> PrivacySpent:
    known = {
        "delta": 1e-4,
        "unit": PrivacyUnit.SUBJECT,
        "relation": Relation.ADD_OR_REMOVE,
        "accountant": "PLD",
    }
    return PrivacySpent(epsilon=epsilon, **(known | more))


@pytest.mark.parametrize(
    ("epsilon", "printed"),
    [(8.004, "8.01"), (8.0, "8.00"), (7.9901, "8.00"), (0.001, "0.01"), (0.0, "0.00"), (0.29, "0.29")],
)
def test_epsilon_is_rounded_up(epsilon, printed):
    assert spent(epsilon).sentence().startswith(f"epsilon {printed} at delta 0.0001,")


@given(st.floats(0, 1e6))
def test_the_printed_epsilon_is_never_below_the_figure(epsilon):
    printed = float(spent(epsilon).sentence().split()[1])
    # Below a hundredth of a millionth it is noise of the arithmetic, such as 0.29 * 100 = 28.999...
    assert epsilon - 1e-8 - 1e-9 * epsilon <= printed <= epsilon + 0.01 + 1e-9 * epsilon


def test_the_sentence_says_unit_relation_and_accountant():
    text = spent(3.0).sentence()
    for part in ("unit subject", "neighbours add-or-remove-one", "accountant PLD"):
        assert part in text
    assert "patient" not in text
    assert "\n" not in text


def test_a_figure_per_patch_says_that_it_is_not_a_patients():
    told = spent(3.0, unit=PrivacyUnit.PATCH, patient_epsilon=51.2, patient_note="4 patches each").sentence()
    assert "NOT a patient's privacy: per patient epsilon 52; 4 patches each" in told
    none = spent(3.0, unit=PrivacyUnit.PATCH, patient_note="no bound").sentence()
    assert "NOT a patient's privacy: per patient epsilon unbounded; no bound" in none


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_epsilon_of_a_budget_is_refused(epsilon):
    with pytest.raises(ValidationError):
        PrivacyBudget(epsilon=epsilon, delta=1e-5, unit=PrivacyUnit.SUBJECT)


@pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
def test_an_impossible_delta_of_a_budget_is_refused(delta):
    with pytest.raises(ValidationError):
        PrivacyBudget(epsilon=1, delta=delta, unit=PrivacyUnit.SUBJECT)


def test_a_budget_has_no_hidden_unit():
    with pytest.raises(ValidationError, match="unit"):
        PrivacyBudget.model_validate({"epsilon": 1, "delta": 1e-5})


@pytest.mark.parametrize("field", ["epsilon", "patient_epsilon"])
def test_a_figure_that_a_site_made_up_does_not_stop_the_printing(field):
    told = spent(**{"epsilon": 1.0, "unit": PrivacyUnit.PATCH, "patient_epsilon": 2.0} | {field: 1e308})
    assert "above 1e+12" in told.sentence()


@pytest.mark.parametrize("word", ["a\nb", "<b>", "a|b", "`", "x" * 2001])
@pytest.mark.parametrize("field", ["accountant", "patient_note", "assumes"])
def test_words_that_come_from_a_site_stay_on_one_line_of_a_table(field, word):
    with pytest.raises(ValidationError, match=field):
        spent(1.0, **{field: word})


def test_a_patients_figure_is_never_negative():
    with pytest.raises(ValidationError, match="patient_epsilon"):
        spent(1.0, unit=PrivacyUnit.PATCH, patient_epsilon=-1.0)


def test_what_figures_assume_together_is_told_once_each_and_always_fits():
    assert all_assumed(["b; a", "", "a", "c"]) == "a; b; c"
    many = all_assumed(f"secure aggregation of the {number}th kind, as agreed" for number in range(100))
    assert many.startswith("100 agreements")
    assert spent(1.0, assumes=many).assumes == many
