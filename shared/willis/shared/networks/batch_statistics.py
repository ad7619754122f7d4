"""Normalisation over a batch of public fakes, with statistics that a release can hold."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

_EPSILON = 1e-5


class BatchStatistics(nn.Module):
    """Batch normalisation (Ioffe 2015) whose running statistics stand still unless they are asked to follow.

    While it trains it normalises over the batch it is shown; in ``eval`` by the statistics it holds, so that
    a patch does not depend on what is drawn beside it. All it holds is float32 (torch's own layer counts
    batches in int64, which no state or release may hold).

    Args:
        channels: Of what it normalises.
    """

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))
        self.follows = 0.0

    def forward(self, hidden: Float[Tensor, "patch channel *space"]) -> Tensor:
        """Return it normalised; while it trains the statistics move by the share ``follows``, 0 to 1."""
        return nn.functional.batch_norm(
            hidden,
            self.mean,
            self.variance,
            self.weight,
            self.bias,
            training=self.training,
            momentum=self.follows,
            eps=_EPSILON,
        )
