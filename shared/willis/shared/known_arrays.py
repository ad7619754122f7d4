"""Arrays that need not travel: a site has them from the order before, and both sides name them by digest.

Flower sends every array of every message, the unchanged ones too (measured). Under adapters most of a model
stands still; then an order carries what changed, and the digests of the rest.
"""

import re
from collections.abc import Mapping

import numpy as np

from willis.shared.errors import OrderIncomplete, StudyError
from willis.shared.update import Arrays, digest

Digests = Mapping[str, str]
_DIGEST = re.compile(r"[0-9a-f]{64}")


def digests_of(arrays: Arrays) -> dict[str, str]:
    """Return the SHA-256 of every array by its name."""
    return {name: digest({name: value}) for name, value in arrays.items()}


def what_changed(arrays: Arrays, known: Digests) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Return the arrays that a site has not, and the digests of those that it has.

    Args:
        arrays: Of the order.
        known: What the site has, by name.
    """
    own = digests_of(arrays) if known else {}
    kept = {name: one for name, one in own.items() if known.get(name) == one}
    return {name: value for name, value in arrays.items() if name not in kept}, kept


def completed(sent: Arrays, kept: object, held: Arrays) -> dict[str, np.ndarray]:
    """Return an order's arrays: those that were sent, and those that a site holds.

    Args:
        sent: Travelled with the order.
        kept: Digests of the others by name, as they travelled: not trusted.
        held: What the site has from the order before.

    Raises:
        StudyError: ``kept`` does not fit.
        OrderIncomplete: The site does not hold one of them.
    """
    if not (
        isinstance(kept, dict)
        and all(isinstance(one, str) and _DIGEST.fullmatch(one) for one in kept.values())
        and not kept.keys() & sent.keys()
    ):
        raise StudyError("the order's kept arrays are no table of names and digests, or travelled too")
    lacking = [name for name in kept if name not in held or digest({name: held[name]}) != kept[name]]
    if lacking:
        raise OrderIncomplete(f"the site does not hold {len(lacking)} arrays that the order does not carry")
    return {**sent, **{name: held[name] for name in kept}}
