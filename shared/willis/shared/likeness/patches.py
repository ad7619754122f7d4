"""What patches must be before likeness is measured; masks that no scan could have.

Degenerate masks are where private generators fail first.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def degenerate_masks(patches: Float[Tensor, "patch channel *space"], *, small: int = 8) -> dict[str, int]:
    """Count the label channels (the last) that are not a mask a segmenter could learn from.

    Args:
        patches: Labelled patches; foreground is a label above 0.
        small: Foreground pixels below which a mask that is not empty counts as a speck.

    Returns:
        ``patches``, and of them ``empty`` (no foreground), ``full`` (nothing but foreground), ``small``
        (1 to ``small`` - 1 foreground pixels), ``not_binary`` (a value further than 0.1 from both -1 and 1).
        One mask may count in several.

    Raises:
        ValueError: A label is not finite, or there is no label channel beside an image.
    """
    if not (patches.ndim in (4, 5) and patches.shape[1] >= 2):
        raise ValueError(
            f"patches must be (patch, image channels and label, *space), got {tuple(patches.shape)}"
        )
    labels = patches[:, -1].flatten(1)
    if not bool(torch.isfinite(labels).all()):
        raise ValueError("labels must be finite, got NaN or infinity")
    foreground = (labels > 0).sum(1)
    return {
        "patches": len(labels),
        "empty": int((foreground == 0).sum()),
        "full": int((foreground == labels.shape[1]).sum()),
        "small": int(((foreground > 0) & (foreground < small)).sum()),
        "not_binary": int(((labels.abs() - 1).abs() > 0.1).any(1).sum()),
    }


def check_patches(patches: Float[Tensor, "patch channel *space"], *, place: str = "patches") -> None:
    """Refuse patches of which no figure of likeness can be computed.

    Args:
        patches: Labelled patches, 2-D or 3-D: image channels first, label last.
        place: What the refusal calls them.

    Raises:
        ValueError: There is no label beside an image, no patch, or a value is NaN or infinite.
    """
    if not (patches.ndim in (4, 5) and patches.shape[1] >= 2 and patches.numel() > 0):
        raise ValueError(
            f"{place} must be (patch, image channels and label, *space) with at least one patch, "
            f"got {tuple(patches.shape)}"
        )
    if not bool(torch.isfinite(patches).all()):
        spoilt = int((~torch.isfinite(patches)).flatten(1).any(1).sum())
        raise ValueError(
            f"{place} must be finite, got NaN or infinity in {spoilt} of {len(patches)}; "
            "find what made them: leaving them out would make a failure look like a success"
        )
