"""Half precision on the wire: a site's answer leaves as float16, and the coordinator reads it as float32.

float16 is exact to 2^-11 between 2^-14 and 65504 only. A power of two that both sides know from the study
alone puts the largest number that an answer may hold just below 2^15, so 29 powers of two are left below it;
nothing about the answer has to travel with it. Rounding comes after clipping and noise, and costs nothing.
"""

import math

import numpy as np

from willis.shared.errors import StudyError
from willis.shared.mechanism import mechanism_of
from willis.shared.privacy import PrivacyUnit
from willis.shared.study import Study
from willis.shared.update import Arrays

_TOP = 15  # the largest number of an answer travels below 2 ** 15; float16 ends at 65504
_NOISE_TAIL = 16.0  # standard deviations that no noise passes
_ROOM = 1 - 2.0**-10  # rounding to float16 lengthens an update by a factor of at most 1 + 2^-11


def narrowed(arrays: Arrays, study: Study, site: str) -> Arrays:
    """Return a site's answer as it travels under the study's ``federation.precision``.

    Guarantees:
        float16 differs from the answer by at most 2^-11 of each number, or 2^-39 of the largest that the
        study allows, whichever is more. The same answer gives the same bytes.

    Args:
        arrays: Of the answer, float32.
        study: The protocol.
        site: Whose answer it is.

    Raises:
        StudyError: A number is not finite, or beyond what the study lets float16 hold; nothing is sent.
    """
    if study.federation.precision == "float32":
        return arrays
    shift = _shift(study, site)
    return {name: _half(value, shift, name) for name, value in arrays.items()}


def widened(arrays: Arrays, study: Study, site: str) -> Arrays:
    """Return as float32 what :func:`narrowed` made; a number that float32 cannot hold becomes infinite."""
    if study.federation.precision == "float32":
        return arrays
    shift = _shift(study, site)
    with np.errstate(over="ignore"):
        return {
            name: np.ldexp(value.astype(np.float64), -shift).astype(np.float32)
            for name, value in arrays.items()
        }


def bound_before_rounding(max_norm: float, study: Study) -> float:
    """Return the L2 bound to clip to, so that what travels is within ``max_norm`` after rounding."""
    return max_norm if study.federation.precision == "float32" else max_norm * _ROOM


def _half(value: np.ndarray, shift: int, name: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        half = np.ldexp(value.astype(np.float64), shift).astype(np.float16)
    lost = int(np.count_nonzero(~np.isfinite(half)))
    if lost:
        raise StudyError(
            f"{name}: {lost} of {half.size} numbers are beyond {math.ldexp(65504.0, -shift):g}, the most "
            'that float16 holds in this study; set federation.precision = "float32"'
        )
    return half


def _shift(study: Study, site: str) -> int:
    """Return the power of two that puts the largest number of an answer below 2 ** 15."""
    return _TOP - math.frexp(_largest(study, site))[1]


def _largest(study: Study, site: str) -> float:
    if study.training.protocol == "local":
        return study.federation.update_norm
    units = study.federation.site(site).subjects
    if study.privacy.unit is PrivacyUnit.PATCH:
        units *= study.patch.per_subject
    # Twice what was declared: a wrong figure breaks no guarantee, and a site may have grown.
    noise = mechanism_of(study, steps=1).noise_multiplier
    return study.privacy.clip_norm * (2 * units + _NOISE_TAIL * noise)
