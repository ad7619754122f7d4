"""The shapes in signatures are checked while tests run; other types are left to pyright."""

import jaxtyping
import numpy as np
import pytest
import torch
from jaxtyping import Float
from shape_checker import check, names_an_array
from torch import Tensor

from willis.shared.metrics.masks import dice
from willis.shared.prior_draws import draw_prior


def test_a_room_refuses_an_array_of_another_kind():
    masks = np.ones((8, 8), bool), np.ones((8, 8), bool)
    assert dice(*masks) == 1.0
    with pytest.raises(jaxtyping.TypeCheckError, match="f64"):
        dice(masks[0].astype(float), masks[1])  # pyright: ignore[reportArgumentType]


def test_a_room_refuses_an_axis_too_few(tiny_study, monkeypatch):
    monkeypatch.setattr("willis.shared.prior_draws.draw_patches", lambda *_, **__: torch.zeros(3))
    with pytest.raises(jaxtyping.TypeCheckError, match=r"prior_draws\._drawn"):
        draw_prior(tiny_study(), 3, purpose="test")


def test_only_arrays_are_checked():
    @check
    def scale(image: Float[Tensor, "row col"], by: int) -> Float[Tensor, "row col"]:
        return image * by

    assert scale(torch.ones(2, 3), 0.5).shape == (2, 3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(Exception, match=r"Type-check|violates"):
        scale(torch.ones(2), 1)


@pytest.mark.parametrize(
    ("hint", "named"),
    [
        (Float[Tensor, " n"], True),
        (tuple[Float[Tensor, " n"], int], True),
        (dict[str, Float[Tensor, " n"]], True),
        (tuple[int, ...], False),
        ("Float", False),
        (Tensor, False),
    ],
)
def test_an_array_is_found_wherever_it_stands(hint, named):
    assert names_an_array(hint) is named
