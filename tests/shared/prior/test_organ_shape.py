"""The organ's shape by hand: taper, arch and cut, lobes, pieces, presence."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy import ndarray
from skimage import measure

from willis.shared.prior.draw import draw_patches, draw_subject
from willis.shared.prior.families import Family, parameters_of
from willis.shared.prior.organ_body import Body, axes_of, pieces_of

STRAIGHT = {
    "extent": (0.3, 0.3),
    "elongation": (2.0, 2.0),
    "angle": (0.0, 0.0),
    "tilt": (0.0, 0.0),
    "offset": (0.0, 0.0),
    **dict.fromkeys(("bend", "taper", "arch", "cut", "irregularity", "lobes"), (0.0, 0.0)),
}


def label_of(size: tuple[int, ...], seed: int = 0, **ranges: tuple[float, float]) -> ndarray:
    changed = STRAIGHT | ranges
    return draw_subject(Family.ORGAN, size=size, generator=np.random.default_rng(seed), ranges=changed)[1]


def pieces(label: ndarray) -> int:
    return int(np.max(np.asarray(measure.label(label, connectivity=1))))


def test_a_cut_beside_the_middle_is_a_smaller_ellipse_by_hand() -> None:
    # Half axes 12 and 6; at 0.6 of the half depth both shrink to sqrt(1 - 0.36) = 0.8 of themselves.
    middle, beside = label_of((40, 40)), label_of((40, 40), cut=(0.6, 0.6))
    assert int(middle.sum()) == pytest.approx(np.pi * 12 * 6, rel=0.03)
    assert int(beside.sum()) == pytest.approx(np.pi * 12 * 6 * 0.64, rel=0.04)
    np.testing.assert_array_equal(beside, label_of((40, 40), cut=(-0.6, -0.6)))


def test_taper_thins_the_tail_and_its_opposite_the_head_by_hand() -> None:
    # Half way to the tail (long = 0.5) a taper of 0.8 leaves 1 - 0.8 x 0.75 = 0.4 of the thickness, half way
    # to the head 1 - 0.8 x 0.25 = 0.8: widths 12 sqrt(1 - 0.25) x 0.4 = 4.2 and 8.3.
    label = label_of((40, 41), taper=(0.8, 0.8), extent=(12 / 41, 12 / 41))
    assert abs(int(label[:, 26].sum()) - 4.2) <= 1
    assert abs(int(label[:, 14].sum()) - 8.3) <= 1
    np.testing.assert_array_equal(
        label[:, ::-1], label_of((40, 41), taper=(-0.8, -0.8), extent=(12 / 41, 12 / 41))
    )


def test_a_slice_beside_an_arched_body_shows_both_ends_and_not_its_middle() -> None:
    # At the middle the slice is 1.3 half depths away; at long = 0.75 only 1.3 - 1.6 x 0.5625 = 0.4.
    label = label_of((40, 60), arch=(1.6, 1.6), cut=(1.3, 1.3), extent=(0.4, 0.4))
    assert pieces(label) == 2
    assert not label[:, 29].any()
    assert label[:, 29 - 18].any()
    assert label[:, 30 + 18].any()


def test_a_slice_of_a_volume_is_the_cut_of_the_plane() -> None:
    """The same arched body in 3-D, sliced at its middle and beside it, is the witness of the 2-D label."""
    whole = Body(
        np.array([15.0, 20.0, 24.0]), np.eye(3)[[2, 1, 0]], np.array([18.0, 9.0, 8.0]), 0.2, 0.3, 0.7
    )
    volume = whole.frame((31, 40, 48)).level < 1
    for plane in (11, 15, 19):
        cut = (plane - 15.0) / 8.0
        flat = Body(np.array([20.0, 24.0]), np.eye(2)[[1, 0]], np.array([18.0, 9.0]), 0.2, 0.3, 0.7, cut)
        np.testing.assert_array_equal(volume[plane], flat.frame((40, 48)).level < 1)


def test_axes_are_orthonormal_and_turn_as_told() -> None:
    for angle, tilt in ((0, 0), (30, 10), (200, -60)):
        axes = axes_of(3, angle, tilt)
        np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)
    np.testing.assert_allclose(axes_of(2, 90, 0)[0], [1, 0], atol=1e-12)
    np.testing.assert_allclose(axes_of(2, -60, 0)[1], [0.5, np.sqrt(3) / 2], atol=1e-12)


def test_lobes_bend_the_outline_of_the_head_alone() -> None:
    smooth, lobed = label_of((48, 60)), label_of((48, 60), lobes=(0.4, 0.4))
    columns = np.flatnonzero((smooth != lobed).any(0))
    assert len(columns) > 0
    assert columns.max() < 29.5 + 0.3 * 18 + 1  # lobes end at 0.3 of the half length, 18 pixels


def test_pieces_by_hand() -> None:
    inside = np.zeros((8, 12), bool)
    inside[1:5, 1:5], inside[2:4, 7:10], inside[7, 11] = True, True, True
    level = np.where(inside, 0.5, 2.0)
    assert int(pieces_of(inside, level).sum()) == 16
    assert int(pieces_of(inside, level, most=2).sum()) == 22
    assert int(pieces_of(inside, level, most=3).sum()) == 22  # one pixel is a crumb
    level[6, 3] = 0.1
    nearest = pieces_of(np.zeros((8, 12), bool), level)
    assert nearest[6, 3]
    assert int(nearest.sum()) == 1


@pytest.mark.parametrize("size", [(48, 32), (20, 24, 18)])
def test_presence_is_the_share_of_images_with_an_organ(size: tuple[int, ...]) -> None:
    n = 200 if len(size) == 2 else 40
    draw = {"n": n, "size": size, "generator": np.random.default_rng(0)}
    there = draw_patches(Family.ORGAN, ranges={"presence": (0.6, 0.6)}, **draw)[:, 1].flatten(1).amax(1) > 0
    assert float(there.float().mean()) == pytest.approx(0.6, abs=3 * np.sqrt(0.24 / n))
    never = draw_patches(
        Family.ORGAN, n=6, size=size, generator=draw["generator"], ranges={"presence": (0, 0)}
    )
    assert float(never[:, 1].max()) == -1
    assert float(never[:, 0].flatten(1).std(1).min()) > 0.01


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from([(8, 9), (48, 32), (12, 14, 10)]), st.data())
def test_the_organ_is_never_empty_and_one_piece_for_any_parameters(
    seed: int, size: tuple[int, ...], data: st.DataObject
) -> None:
    table = parameters_of(Family.ORGAN)
    names = (
        "extent",
        "elongation",
        "angle",
        "tilt",
        "bend",
        "taper",
        "arch",
        "irregularity",
        "lobes",
        "offset",
    )
    ranges = {
        name: (at, at) for name in names for at in [data.draw(st.floats(table[name].least, table[name].most))]
    }
    cut = data.draw(st.floats(-2, 2))
    generator = np.random.default_rng(seed)
    label = draw_subject(Family.ORGAN, size=size, generator=generator, ranges=ranges | {"cut": (cut, cut)})[1]
    assert 1 <= pieces(label) <= (2 if len(size) == 2 and abs(cut) > 1 else 1)
