"""Which directions of a network's weights move: all, the last layers, low rank, or scale and shift.

The noise of a private gradient grows with the number of its coordinates, the signal does not. An adapter
names a subspace of the weights with an orthonormal frame, save where a whole row of weights is zero: a
gradient is pulled down to the frame's coordinates, a step is pushed up to the weights. Pulling never makes a
vector longer, and what is pushed moves nothing outside of the frame.
"""

from collections.abc import Mapping
from typing import Literal, Protocol

import torch
from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.build import public_generator

Choice = Literal["all", "last-layers", "low-rank", "scale-and-shift"]


class _Piece(Protocol):
    """The directions in which one parameter moves."""

    @property
    def length(self) -> int: ...

    def pull(self, gradient: Tensor) -> Tensor: ...

    def push(self, step: Tensor) -> Tensor: ...


class Adapter:
    """A subspace of a network's weights.

    Args:
        network: Read now: scale and shift are directions of its present weights.
        choice: ``all``; ``last-layers``: every weight of the last ``last``; ``low-rank``: a weight, seen as
            an (output, rest) matrix, moves by a trained times a fixed, public factor of rank ``rank``; a
            single row or column moves whole, vectors stay (LoRA, Hu 2021, with one factor fixed as in
            FFA-LoRA, Sun 2024: a product of two noisy factors has noise times noise); ``scale-and-shift``:
            one gain for each output channel, and every vector.
        rank: Of ``low-rank``.
        last: Layers of ``last-layers``, from the output; heads beside each other are one.
        seed: Public seed of the fixed factors.

    Attributes:
        names: Parameters that move, in the network's order.
        length: Coordinates.
    """

    def __init__(self, network: nn.Module, choice: Choice, *, rank: int, last: int, seed: int) -> None:
        kept = {name for layer in layers(network)[-last:] for name in layer}
        self._pieces: dict[str, _Piece] = {}
        for name, weight in network.named_parameters():
            weight = weight.detach()
            if choice == "all" or (choice == "last-layers" and name in kept):
                self._pieces[name] = _Whole(weight)
            elif choice == "scale-and-shift":
                self._pieces[name] = _Rows(weight) if weight.ndim > 1 else _Whole(weight)
            elif choice == "low-rank" and weight.ndim > 1:
                single = min(weight.flatten(1).shape) == 1
                dice = public_generator(seed, "factor", name)
                self._pieces[name] = _Whole(weight) if single else _Factor(weight, rank, dice)
        self.names = tuple(self._pieces)
        self.length = sum(piece.length for piece in self._pieces.values())

    def pull(self, gradient: Mapping[str, Tensor]) -> Float[Tensor, " coordinate"]:
        """Return the coordinates of a gradient, given by the names of the parameters that move."""
        return torch.cat([piece.pull(gradient[name]) for name, piece in self._pieces.items()])

    def push(self, step: Float[Tensor, " coordinate"]) -> dict[str, Tensor]:
        """Return what a step in coordinates adds to each parameter that moves."""
        parts = step.split([piece.length for piece in self._pieces.values()])
        return {
            name: piece.push(part) for (name, piece), part in zip(self._pieces.items(), parts, strict=True)
        }

    def gradient(self, network: nn.Module, loss: Tensor) -> Float[Tensor, " coordinate"]:
        """Return the gradient of a loss in coordinates, float32."""
        parameters = dict(network.named_parameters())
        slopes = torch.autograd.grad(loss, [parameters[name] for name in self.names])
        return self.pull(dict(zip(self.names, slopes, strict=True)))

    @torch.no_grad()
    def move(self, network: nn.Module, step: Float[Tensor, " coordinate"]) -> None:
        """Add a step to the network's weights, in place."""
        parameters = dict(network.named_parameters())
        for name, change in self.push(step).items():
            parameters[name].add_(change)


def layers(network: nn.Module) -> list[list[str]]:
    """Return the names of a network's parameters by layer, from input to output.

    The items of a list of modules are layers; heads (``to_...``) see the same input and are one layer.
    """
    found: dict[str, list[str]] = {}
    for name, _ in network.named_parameters():
        first, *rest = name.split(".")
        layer = f"{first}.{rest[0]}" if rest and rest[0].isdigit() else first
        found.setdefault("to" if first.startswith("to_") else layer, []).append(name)
    return list(found.values())


class _Whole:
    """Every number of a parameter."""

    def __init__(self, weight: Tensor) -> None:
        self._shape = weight.shape
        self.length = weight.numel()

    def pull(self, gradient: Tensor) -> Tensor:
        return gradient.flatten()

    def push(self, step: Tensor) -> Tensor:
        return step.reshape(self._shape)


class _Rows:
    """One gain for each row of an (output, rest) matrix, along the row's own direction; a zero row stays."""

    def __init__(self, weight: Tensor) -> None:
        self._shape = weight.shape
        self._units = nn.functional.normalize(weight.flatten(1), dim=1)
        self.length = len(weight)

    def pull(self, gradient: Tensor) -> Tensor:
        return (gradient.flatten(1) * self._units).sum(1)

    def push(self, step: Tensor) -> Tensor:
        return (step[:, None] * self._units).reshape(self._shape)


class _Factor:
    """Trained (side, rank) times fixed orthonormal (rank, longer side), of an (output, rest) matrix."""

    def __init__(self, weight: Tensor, rank: int, dice: torch.Generator) -> None:
        self._shape = weight.shape
        rows, columns = weight.flatten(1).shape
        self._tall = rows > columns
        long, self._short = max(rows, columns), min(rows, columns)
        self._rank = min(rank, long)
        normal = torch.randn((long, self._rank), generator=dice, dtype=torch.float64)
        directions, upper = torch.linalg.qr(normal)
        # The signs of a QR decomposition are the library's own choice; these are the same everywhere.
        signed = directions * upper.diagonal().sign()
        self._fixed = signed.T.to(weight)
        self.length = self._short * self._rank

    def pull(self, gradient: Tensor) -> Tensor:
        matrix = gradient.flatten(1).T if self._tall else gradient.flatten(1)
        return (matrix @ self._fixed.T).flatten()

    def push(self, step: Tensor) -> Tensor:
        matrix = step.reshape(self._short, self._rank) @ self._fixed
        return (matrix.T if self._tall else matrix).reshape(self._shape)
