"""What the coordinator sends and a site answers: weights by name, their digest and their norm.

Both travel as a header (JSON text) and arrays; nothing here knows how they are carried.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, StringConstraints
from torch import Tensor

from willis.shared import errors
from willis.shared.errors import StudyError, UpdateRefused, WillisError
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import AnySettings, Settings, parse
from willis.shared.study import Name

Arrays = Mapping[str, np.ndarray]
SUM = "sum"  # name of the one array that a site answers with under protocol ``pooled``
Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]

# The only words that a refusal may carry through the wall.
REFUSAL_CODES = frozenset(
    kind.code for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, WillisError)
)
_HEADER_LIMIT = 1_000_000  # characters
_ANSWER_LIMIT = 8_192


class _OrderHeader(Settings):
    study_json: str
    study_digest: Digest
    run: Name
    round: int = Field(ge=1)


class _AnswerHeader(Settings):
    site: Name
    round: int = Field(ge=1)
    order_digest: Digest
    spent: PrivacySpent
    ledger_head: str = Field(pattern=r"^[0-9a-z:-]{0,128}$")


@dataclass(frozen=True, eq=False, kw_only=True)
class RoundOrder:
    """What the coordinator asks of every site in one round.

    Attributes:
        study_json: The study, as JSON.
        study_digest: Its :meth:`~willis.shared.settings.Settings.digest`.
        run: Name of the run; the same over all its rounds, another one for every fresh start.
        round: From 1.
        arrays: What the sites need to know, by name: the global generator (``local``), or what the recipe's
            question is made from (``pooled``).

    Raises:
        StudyError: A field does not fit; a run's name is safe to name a folder.
    """

    study_json: str
    study_digest: str
    run: str
    round: int
    arrays: Arrays

    def __post_init__(self) -> None:
        self.header()

    def header(self) -> str:
        """Return all but the arrays, as JSON."""
        fields = {key: getattr(self, key) for key in _OrderHeader.model_fields}
        return parse(fields, _OrderHeader, where="the order").model_dump_json()

    def digest(self) -> str:
        """Return the SHA-256 of header and arrays: the same order, the same digest."""
        return _joint_digest(self.header(), self.arrays)

    @classmethod
    def read(cls, header: str, arrays: Arrays) -> "RoundOrder":
        """Build an order from what travelled.

        Raises:
            StudyError: The header is not an order's.
        """
        fields = _read_header(header, _OrderHeader, limit=_HEADER_LIMIT, where="the order")
        return cls(**fields.model_dump(), arrays=arrays)


@dataclass(frozen=True, eq=False, kw_only=True)
class SiteAnswer:
    """What a site answers to a :class:`RoundOrder`.

    Attributes:
        arrays: ``local``: difference of the generator's floating-point weights, after minus before;
            ``pooled``: the private sum, flat, under :data:`SUM`. In the study's ``federation.precision``.
        site: The site's name.
        round: Of the order.
        order_digest: :meth:`RoundOrder.digest` of what was answered.
        spent: All that the site's cohort paid so far.
        ledger_head: Last hash of the site's ledger.
    """

    arrays: Arrays
    site: str
    round: int
    order_digest: str
    spent: PrivacySpent
    ledger_head: str

    def header(self) -> str:
        """Return all but the arrays, as JSON.

        Raises:
            UpdateRefused: A field does not fit.
        """
        fields = {key: getattr(self, key) for key in _AnswerHeader.model_fields}
        try:
            return parse(fields, _AnswerHeader, where="the answer").model_dump_json()
        except StudyError as fault:
            raise UpdateRefused(str(fault)) from fault

    @classmethod
    def read(cls, header: str, arrays: Arrays) -> "SiteAnswer":
        """Build an answer from what travelled; the arrays are not looked at yet.

        Raises:
            UpdateRefused: The header is not an answer's.
        """
        try:
            fields = _read_header(header, _AnswerHeader, limit=_ANSWER_LIMIT, where="the answer")
        except StudyError as fault:
            raise UpdateRefused(str(fault)) from fault
        return cls(**{key: getattr(fields, key) for key in _AnswerHeader.model_fields}, arrays=arrays)


def arrays_from_state(state: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    """Copy a network's state dict to arrays by name."""
    return {name: value.detach().cpu().numpy().copy() for name, value in state.items()}


def state_from_arrays(arrays: Arrays) -> dict[str, Tensor]:
    """Copy arrays by name to a state dict; the opposite of :func:`arrays_from_state`."""
    return {name: torch.from_numpy(np.array(value, copy=True)) for name, value in arrays.items()}


def floating(arrays: Arrays) -> dict[str, np.ndarray]:
    """Return the arrays that hold floating-point numbers: those that training moves."""
    return {name: value for name, value in arrays.items() if np.issubdtype(value.dtype, np.floating)}


def difference(after: Arrays, before: Arrays) -> dict[str, np.ndarray]:
    """Return after minus before of the floating-point arrays, float32."""
    start = floating(before)
    return {name: (after[name].astype(np.float64) - start[name]).astype(np.float32) for name in start}


def check_model(arrays: Arrays) -> None:
    """Raise ``ValueError`` unless every array is finite float32, or holds integers or booleans."""
    if not floating(arrays):
        raise ValueError(
            f"a model needs a floating-point array, got {len(arrays)} arrays and none of them is"
        )
    for name, value in arrays.items():
        if not (value.dtype == np.float32 or value.dtype.kind in "iub"):
            raise ValueError(f"{name}: a model's arrays are float32, integers or booleans, got {value.dtype}")
        if not bool(np.all(np.isfinite(value))):
            raise ValueError(
                f"{name}: a model's arrays must be finite, got {int(_n_bad(value))} that are not"
            )


def digest(arrays: Arrays) -> str:
    """Return the SHA-256 over names, dtypes, shapes and bytes, as 64 hex digits.

    Names are taken in sorted order; byte order and memory layout do not matter.
    """
    total = hashlib.sha256()
    for name in sorted(arrays):
        value = np.asarray(arrays[name])
        value = np.ascontiguousarray(value.astype(value.dtype.newbyteorder("<"), copy=False)).reshape(
            value.shape
        )
        for part in (name.encode(), value.dtype.str.encode(), repr(value.shape).encode(), value.tobytes()):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()


def norm(arrays: Arrays) -> float:
    """Return the L2 norm over all arrays together, summed in float64; NaN or infinite where they are."""
    return math.sqrt(sum(float(np.sum(np.square(value, dtype=np.float64))) for value in arrays.values()))


def clip_update(arrays: Arrays, max_norm: float) -> dict[str, np.ndarray]:
    """Scale an update down so that its L2 norm is at most ``max_norm``.

    Guarantees:
        The returned :func:`norm` is at most ``max_norm``, after rounding to float32.
        An update already within the bound is returned with its values unchanged.

    Edge cases:
        A zero update stays zero.

    Raises:
        UpdateRefused: The update is not finite; clipping cannot bound it.
    """
    if not (max_norm > 0 and math.isfinite(max_norm)):
        raise ValueError(f"max_norm must be positive and finite, got {max_norm}")
    length = norm(arrays)
    if not math.isfinite(length):
        bad = sum(int(_n_bad(value)) for value in arrays.values())
        raise UpdateRefused(f"the update holds {bad} numbers that are not finite; see the site's log")
    if length <= max_norm:
        return {name: np.array(value, dtype=np.float32) for name, value in arrays.items()}
    slack = 0.0
    while True:
        factor = max_norm / length * (1 - slack)
        clipped = {
            name: (value.astype(np.float64) * factor).astype(np.float32) for name, value in arrays.items()
        }
        if norm(clipped) <= max_norm:
            return clipped
        slack = min(1.0, max(2 * slack, 2.0**-24))


def _n_bad(value: np.ndarray) -> np.integer:
    return np.count_nonzero(~np.isfinite(value))


def _joint_digest(header: str, arrays: Arrays) -> str:
    return hashlib.sha256(f"{header}\n{digest(arrays)}".encode()).hexdigest()


def _read_header(text: str, kind: type[AnySettings], *, limit: int, where: str) -> AnySettings:
    if not (isinstance(text, str) and len(text) <= limit):
        raise StudyError(f"{where} must be at most {limit} characters of text")
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as fault:
        raise StudyError(f"{where} is not valid JSON") from fault
    return parse(values, kind, where=where)
