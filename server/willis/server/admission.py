"""Which updates are sound enough to count. A reply's body is untrusted until it has passed here."""

from enum import StrEnum

import numpy as np

from willis.shared.errors import UpdateRefused
from willis.shared.privacy import PrivacyBudget, PrivacySpent
from willis.shared.study import Study
from willis.shared.update import SUM, Arrays, SiteAnswer, floating, norm
from willis.shared.wire_precision import widened

_ROUNDING = 1e-5  # relative; a site clips in its own arithmetic


class Reason(StrEnum):
    """Why an update is not sound."""

    UNREADABLE = "unreadable"
    SITE = "site"
    ROUND = "round"
    ORDER = "order"
    SPENT = "spent"
    NAMES = "names"
    DTYPE = "dtype"
    SHAPE = "shape"
    NOT_FINITE = "not-finite"
    NORM = "norm"


class UnsoundUpdate(UpdateRefused):
    """An update that does not count.

    Attributes:
        reason: Which check it failed.
        recorded: What the round's record says: ``update-`` and the reason.
    """

    def __init__(self, reason: Reason, sentence: str) -> None:
        self.reason = reason
        self.recorded = f"{self.code}-{reason.value}"
        super().__init__(sentence)


def check_origin(
    answer: SiteAnswer, *, site: str, number: int, order_digest: str, budget: PrivacyBudget
) -> None:
    """Refuse an answer to another order, in another site's name, or that counts its spending otherwise.

    Args:
        answer: What came back.
        site: Whom the order was sent to.
        number: Of the order's round.
        order_digest: Of the order; it covers the study, the run, the round and the arrays sent.
        budget: The study's; what a site spent is told at its delta, in its unit and relation.

    Raises:
        UnsoundUpdate: With the reason.
    """
    if answer.site != site:
        raise UnsoundUpdate(Reason.SITE, f'asked site "{site}", the answer says it is from "{answer.site}"')
    if answer.round != number:
        raise UnsoundUpdate(Reason.ROUND, f"asked for round {number}, the answer is to round {answer.round}")
    if answer.order_digest != order_digest:
        raise UnsoundUpdate(
            Reason.ORDER, f"the answer is to order {answer.order_digest[:12]}, sent was {order_digest[:12]}"
        )
    told, wanted = ((it.delta, it.unit.value, it.relation.value) for it in (answer.spent, budget))
    if told != wanted:
        raise UnsoundUpdate(Reason.SPENT, f"its spending is told as {told}, the study counts as {wanted}")


def check_not_less(answer: SiteAnswer, *, before: PrivacySpent | None) -> None:
    """Refuse an answer whose site says to have spent less than it said before: its ledger was lost."""
    if before is not None and answer.spent.epsilon < before.epsilon * (1 - 1e-9):
        raise UnsoundUpdate(
            Reason.SPENT,
            f"the site has spent epsilon {answer.spent.epsilon:g}, and before it {before.epsilon:g}",
        )


def admit_precision(arrays: Arrays, study: Study, *, site: str) -> Arrays:
    """Return an answer's arrays as float32, where they travelled in the precision that the study says.

    Raises:
        UnsoundUpdate: They are of another type.
    """
    wanted = np.dtype(study.federation.precision)
    for name, value in arrays.items():
        _check_type(value, wanted, name)
    return widened(arrays, study, site)


def check_update(arrays: Arrays, *, like: Arrays, max_norm: float) -> None:
    """Refuse arrays that are not a bounded difference of the model's weights.

    Args:
        arrays: Of an answer.
        like: The global model.
        max_norm: L2 bound of an update; it may be passed by a factor of 1 + 1e-5.

    Raises:
        UnsoundUpdate: With the reason.
    """
    _check_arrays(arrays, floating(like), max_norm=max_norm)


def check_sum(arrays: Arrays, *, length: int, max_norm: float) -> None:
    """Refuse arrays that are not one bounded private sum.

    Args:
        arrays: Of an answer.
        length: Coordinates of the question's vector.
        max_norm: L2 bound of a site's sum; it may be passed by a factor of 1 + 1e-5.

    Raises:
        UnsoundUpdate: With the reason.
    """
    _check_arrays(arrays, {SUM: np.zeros(length, np.float32)}, max_norm=max_norm)


def _check_arrays(arrays: Arrays, wanted: Arrays, *, max_norm: float) -> None:
    odd = sorted(set(wanted) ^ set(arrays))
    if odd:
        raise UnsoundUpdate(
            Reason.NAMES, f"{len(odd)} names differ from the model's, the first is {odd[0]!r}"
        )
    for name, model in wanted.items():
        _check_array(arrays[name], model, name)
    length = norm(arrays)
    if not length <= max_norm * (1 + _ROUNDING):
        raise UnsoundUpdate(Reason.NORM, f"the update's norm is {length:g}, the study allows {max_norm:g}")


def _check_array(value: object, model: np.ndarray, name: str) -> None:
    value = _check_type(value, np.dtype(np.float32), name)
    if value.shape != model.shape:
        raise UnsoundUpdate(Reason.SHAPE, f"{name}: must have shape {model.shape}, got {value.shape}")
    bad = int(np.count_nonzero(~np.isfinite(value)))
    if bad:
        raise UnsoundUpdate(Reason.NOT_FINITE, f"{name}: {bad} of {value.size} numbers are not finite")


def _check_type(value: object, wanted: np.dtype, name: str) -> np.ndarray:
    if not (isinstance(value, np.ndarray) and value.dtype == wanted):
        found = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise UnsoundUpdate(Reason.DTYPE, f"{name}: must be {wanted}, got {found}")
    return value
