"""What a family draws into a tissue."""

from dataclasses import dataclass

from jaxtyping import Bool, Float
from numpy import ndarray


@dataclass(frozen=True)
class Target:
    """The thing to be segmented, before any scanner blurred it.

    Attributes:
        label: True on the target; exactly where ``shade`` is not 0.
        shade: Share of the contrast that a pixel shows; 0 off the target.
        surroundings: Relative intensity added to the tissue beside the target, and under it where the
            target's own tissue is not plain.
    """

    label: Bool[ndarray, "*space"]
    shade: Float[ndarray, "*space"]
    surroundings: Float[ndarray, "*space"]
