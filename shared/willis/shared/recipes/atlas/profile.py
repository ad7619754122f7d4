"""The grey across the label's border: means over rings of distance, by the direction in which one leaves.

Templates that few subjects pay for are blurred; this profile is pooled over all labelled patches, so it is
sharp and cheap. It is what a neural network segments by.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from scipy.ndimage import gaussian_filter
from torch import Tensor

from willis.shared.recipes.atlas.frame import FAR, border_distance

RING_EDGES = (-4.5, -3.0, -2.0, -1.0, 0.0, 1.0, 2.0)  # pixels, positive inside; beyond FAR outside is no ring
N_RINGS = len(RING_EDGES) + 1
N_SECTORS = 4  # directions of leaving: down, right, up, left, and mixtures
N_PROFILE = N_RINGS * N_SECTORS
_PRESENT = 1.0  # pixels that a mean needs
_SMOOTH = 1.0  # pixels; of the distance, before its slope is taken

Weights = Float[Tensor, "patch place row col"]


def places(label: Float[Tensor, "patch row col"]) -> Weights:
    """Return to which ring and direction every pixel belongs: shares that add up to 1, or 0 far outside.

    Args:
        label: Above 0 on the organ; a patch without any has no places.
    """
    return torch.from_numpy(np.stack([_places(plane.numpy()) for plane in border_distance(label)]))


def _places(distance: Float[ndarray, "row col"]) -> Float[ndarray, "place row col"]:
    weights = np.zeros((N_RINGS, N_SECTORS, *distance.shape), np.float32)
    if distance.max() <= 0:
        return weights.reshape(N_PROFILE, *distance.shape)
    down, right = np.gradient(-gaussian_filter(distance, _SMOOTH))
    turn = np.arctan2(right, down) / (2 * math.pi) * N_SECTORS % N_SECTORS
    first = np.floor(turn).astype(int) % N_SECTORS
    second = (turn - np.floor(turn)).astype(np.float32)
    ring = np.digitize(distance * FAR, RING_EDGES)
    near = distance > -1
    rows, cols = np.nonzero(near)
    weights[ring[near], first[near], rows, cols] = 1 - second[near]
    weights[ring[near], (first[near] + 1) % N_SECTORS, rows, cols] = second[near]
    return weights.reshape(N_PROFILE, *distance.shape)


def profile_means(
    image: Float[Tensor, "patch row col"], label: Float[Tensor, "patch row col"]
) -> tuple[Float[Tensor, "patch place"], Float[Tensor, "patch place"]]:
    """Return each patch's mean grey at every place, less the patch's mean; and 1 where it has the place.

    A place that a patch has not got has mean 0.
    """
    weights = places(label)
    mass = weights.sum((2, 3))
    centred = image - image.mean((1, 2), keepdim=True)
    present = (mass > _PRESENT).float()
    return present * torch.einsum("npyx,nyx->np", weights, centred) / mass.clamp(min=_PRESENT), present


def profile_field(
    profile: Float[Tensor, " place"], label: Float[Tensor, "patch row col"]
) -> Float[Tensor, "patch row col"]:
    """Return the grey that a profile adds to every pixel of labelled patches."""
    return torch.einsum("p,npyx->nyx", profile, places(label))
