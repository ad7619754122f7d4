"""What a study may change in the prior, and what is refused."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willis.shared.prior.families import Family, check_ranges, parameters_of, ranges_of


@pytest.mark.parametrize("family", list(Family))
def test_usual_ranges_lie_within_their_own_bounds(family: Family) -> None:
    for name, parameter in parameters_of(family).items():
        assert parameter.least <= parameter.low <= parameter.high <= parameter.most, name
        assert parameter.unit, name
        assert parameter.meaning, name


def test_unknown_names_are_told_together_with_the_known() -> None:
    with pytest.raises(ValueError, match=r"unknown: raduis, zoom; vessels knows .*radius") as error:
        check_ranges(Family.VESSELS, {"raduis": (1, 2), "zoom": (1, 2), "trees": (1, 2)})
    assert "trees must" not in str(error.value)


@pytest.mark.parametrize(
    ("given_range", "said"),
    [
        ((3.0, 2.0), "radius must not fall, got 3.0 to 2.0"),
        ((math.nan, 2.0), "radius must be finite, got nan to 2.0"),
        ((1.0, math.inf), "radius must be finite, got 1.0 to inf"),
        ((0.0, 2.0), "radius must lie within 0.6 to 40, got 0.0 to 2.0"),
        ((1.0, 41.0), "radius must lie within 0.6 to 40, got 1.0 to 41.0"),
        ((1.0, 2.0, 3.0), "radius needs a low and a high"),
    ],
)
def test_unfit_range_is_refused_with_its_name_and_value(given_range: tuple[float, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_ranges(Family.VESSELS, {"radius": given_range})


def test_every_fault_is_told_at_once() -> None:
    with pytest.raises(ValueError, match=r"noise must not fall.*gain must be finite.*unknown: trees"):
        check_ranges(Family.ORGAN, {"noise": (0.5, 0.1), "gain": (1, math.nan), "trees": (1, 2)})


def test_overrides_take_the_place_of_the_usual_ranges_and_nothing_else() -> None:
    usual = ranges_of(Family.LESIONS, {})
    changed = ranges_of(Family.LESIONS, {"radius": (2, 3)})
    assert changed["radius"] == (2.0, 3.0) != usual["radius"]
    assert {name: changed[name] for name in usual if name != "radius"} == {
        name: usual[name] for name in usual if name != "radius"
    }
    assert list(changed) == list(parameters_of(Family.LESIONS))


@given(
    st.sampled_from(list(Family)),
    st.data(),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_every_rising_range_within_bounds_is_accepted(
    family: Family, data: st.DataObject, one: float, other: float
) -> None:
    name = data.draw(st.sampled_from(list(parameters_of(family))))
    parameter = parameters_of(family)[name]
    span = parameter.most - parameter.least
    low, high = (parameter.least + span * share for share in sorted((one, other)))
    assert ranges_of(family, {name: (low, min(high, parameter.most))})[name][0] == low


def test_a_family_has_a_name_in_a_study_file() -> None:
    assert [str(family) for family in Family] == ["vessels", "lesions", "organ"]
    with pytest.raises(ValueError, match="arteries"):
        check_ranges("arteries", {})  # pyright: ignore[reportArgumentType]
