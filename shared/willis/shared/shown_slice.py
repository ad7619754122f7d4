"""Which slice of a volume a flat picture shows."""

from jaxtyping import Float
from torch import Tensor


def shown_slice(patch: Float[Tensor, " channel *space"]) -> Float[Tensor, "channel row col"]:
    """Return the slice of a volume, along its first axis, with most of the label; a 2-D patch as it is.

    Where there is no label it is the middle slice.

    Args:
        patch: Image channels, then the label, positive on the target.
    """
    if patch.ndim == 3:
        return patch
    filled = (patch[-1] > 0).sum((1, 2))
    return patch[:, int(filled.argmax()) if int(filled.max()) > 0 else patch.shape[1] // 2]
