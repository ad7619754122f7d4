"""The slice that a flat picture of a volume shows."""

import torch

from willis.shared.shown_slice import shown_slice


def test_the_slice_with_most_label_else_the_middle_one():
    volume = torch.arange(2 * 5 * 3 * 4).reshape(2, 5, 3, 4).float()
    volume[1] = -1
    assert torch.equal(shown_slice(volume), volume[:, 2])
    volume[1, 4, 0, 0] = 1
    volume[1, 1, 0, :2] = 1
    assert torch.equal(shown_slice(volume), volume[:, 1])
    assert torch.equal(shown_slice(volume[:, 0]), volume[:, 0]), "flat as it is"
