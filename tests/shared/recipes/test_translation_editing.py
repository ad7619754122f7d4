"""Labels moved, scaled, mirrored and put elsewhere."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings
from torch.testing import assert_close

from willis.shared.game_plans import EditPlan
from willis.shared.recipes.translation.editing import edit_label, mirror, move, put_into, scale


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def square(at: tuple[int, int] = (6, 8), side: int = 4, patch: tuple[int, int] = (24, 32)) -> torch.Tensor:
    label = torch.full(patch, -1.0)
    label[at[0] : at[0] + side, at[1] : at[1] + side] = 1.0
    return label


def blob(seed: int, size: tuple[int, ...]) -> torch.Tensor:
    return torch.where(torch.rand(size, generator=dice(seed)) > 0.7, 1.0, -1.0)


def test_a_square_is_moved_by_hand():
    assert_close(move(square((6, 8)), (3, -5)), square((9, 3)))


def test_what_is_moved_out_is_cut_off_and_does_not_come_in_elsewhere():
    moved = move(square((6, 8)), (-8, 0))  # rows 6 to 9 come to -2 to 1
    assert int((moved > 0).sum()) == 2 * 4
    assert bool((moved[2:] == -1).all())


def test_twice_as_long_is_four_times_the_area_about_the_same_centre():
    # Columns 8 to 11 have their centre at 10; doubled they are 6 to 13.
    expected = torch.full((24, 32), -1.0)
    expected[4:12, 6:14] = 1.0
    assert_close(scale(square((6, 8)), 2.0), expected)
    assert_close(scale(scale(square(), 2.0), 0.5), square())


def test_a_cube_scaled_by_two_has_eight_times_the_volume():
    label = torch.full((16, 16, 16), -1.0)
    label[6:9, 6:9, 6:9] = 1.0
    assert int((scale(label, 2.0) > 0).sum()) == 8 * 27


def test_mirrored_twice_is_itself_and_once_is_on_the_other_side():
    label = square((6, 2))
    assert_close(mirror(mirror(label, (0, 1)), (0, 1)), label)
    assert_close(mirror(label, (1,)), square((6, 32 - 2 - 4)))
    assert_close(mirror(label, ()), label)


def test_an_empty_label_stays_empty():
    empty = torch.full((8, 8), -1.0)
    for edited in (scale(empty, 3.0), move(empty, (1, 1)), mirror(empty, (0,))):
        assert_close(edited, empty)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 999),
    moved=st.floats(0, 0.5),
    low=st.floats(0.1, 1),
    high=st.floats(1, 10),
    mirrored=st.booleans(),
    size=st.sampled_from([(8, 12), (8, 9, 10)]),
)
def test_an_edited_label_is_a_label_within_tissue(seed, moved, low, high, mirrored, size):
    label, level = blob(seed, size), blob(seed + 1, size)
    plan = EditPlan(moved=moved, scaled=(low, high), mirrored=mirrored)
    edited = edit_label(label, level, plan, dice(seed))
    assert edited.shape == label.shape
    assert bool((edited.abs() == 1).all())
    if plan != EditPlan():
        assert not bool(((edited > 0) & (level == -1)).any())
    assert_close(edited, edit_label(label, level, plan, dice(seed)), msg="the same dice, the same edit")


def test_a_plan_that_changes_nothing_keeps_a_label_outside_tissue():
    label, nowhere = square(), torch.full((24, 32), -1.0)
    nowhere[0, 0] = 0.0
    assert_close(edit_label(label, nowhere, EditPlan(), dice()), label)


def test_a_level_of_one_step_cuts_nothing_off():
    edited = edit_label(square(), torch.full((24, 32), -1.0), EditPlan(moved=0.1), dice(3))
    assert int((edited > 0).sum()) == 16


def test_an_edit_reaches_as_far_as_its_plan_and_no_farther():
    rows = []
    for seed in range(200):
        edited = edit_label(square((10, 14)), torch.zeros(24, 32), EditPlan(moved=0.25), dice(seed))
        rows.append(int((edited > 0).nonzero()[:, 0].min()) - 10)
    assert (min(rows), max(rows)) == (-6, 6), "a quarter of 24 pixels"


def test_the_dice_go_on_alike_whatever_the_plan():
    ends = []
    for plan in (EditPlan(), EditPlan(moved=0.3, scaled=(0.5, 2), mirrored=True)):
        die = dice(4)
        edit_label(square(), torch.zeros(24, 32), plan, die)
        ends.append(float(torch.rand((), generator=die)))
    assert ends[0] == ends[1]


def test_a_lesion_is_put_into_a_healthy_brain_by_hand():
    healthy = torch.stack([torch.full((24, 32), 0.5), torch.full((24, 32), -1.0)])
    allowed = torch.ones((24, 32), dtype=torch.bool)
    allowed[:, 10:] = False
    found = put_into(healthy, square((6, 8)), allowed)
    assert_close(found[0], healthy[0])
    assert int((found[1] > 0).sum()) == 4 * 2, "columns 8 and 9 of 8 to 11"


def test_a_lesion_goes_where_it_fits():
    healthy = torch.stack([torch.zeros(24, 32), torch.full((24, 32), -1.0)])
    allowed = torch.zeros((24, 32), dtype=torch.bool)
    allowed[2:14, 18:30] = True
    found = put_into(healthy, square((6, 2)), allowed, dice=dice(5))
    assert int((found[1] > 0).sum()) == 16, "whole, though nothing was allowed where it lay"
    assert bool(allowed[found[1] > 0].all())


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 999), thrown=st.booleans(), size=st.sampled_from([(8, 12), (6, 7, 8)]))
def test_a_lesion_never_leaves_what_is_allowed(seed, thrown, size):
    healthy = torch.stack([blob(seed, size), blob(seed + 1, size)])
    allowed = blob(seed + 2, size) > 0
    found = put_into(healthy, blob(seed + 3, size), allowed, dice=dice(seed) if thrown else None)
    assert bool((found[1].abs() == 1).all())
    assert not bool(((found[1] > 0) & ~allowed).any())


def test_bad_values_are_refused():
    with pytest.raises(ValueError, match=r"shift must have 2 numbers, one an axis, got \(1,\)"):
        move(square(), (1,))
    with pytest.raises(ValueError, match="factor must be positive and finite, got nan"):
        scale(square(), float("nan"))
    with pytest.raises(ValueError, match="must have one shape"):
        put_into(torch.zeros(2, 8, 8), torch.zeros(8, 9), torch.ones(8, 8, dtype=torch.bool))
