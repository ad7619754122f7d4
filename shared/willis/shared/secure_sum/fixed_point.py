"""From a clipped vector of real numbers to whole steps and back, so that the bound holds in integers.

A unit's vector is clipped to C - sqrt(d) * step / 2 and rounded to the nearest steps: rounding moves it by at
most sqrt(d) * step / 2, so its norm is at most C and a unit moves the sum by at most C, exactly. Sums are
taken modulo 2 ** 64. The step is a power of two, so fine that one site's noise spans 2 ** 20 of them and
rounding takes at most a thousandth of the clip.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int64, UInt64
from numpy import ndarray

from willis.shared.errors import StudyError, UpdateRefused
from willis.shared.secure_sum.terms import SumTerms

SMOOTHING = 4.0  # steps; see privacy.ROUNDING_SLACK
_STEPS_IN_NOISE = 2.0**20
_LARGEST_SUM = 2.0**53  # steps; below it float64 holds every whole number
_TAIL = 40.0  # standard deviations; a normal variate exceeds them once in 10 ** 349
_MOST_ROUNDING = 1e-3  # of the clip
_ROOM = 1 - 1e-9  # for the rounding of a norm taken in float64


@dataclass(frozen=True)
class FixedPoint:
    """How real numbers become steps, for one agreement.

    Attributes:
        step: Size of one step; a power of two.
        radius: L2 norm to which a unit's vector is clipped before it is rounded.
        bound: ``clip_norm`` in steps: the sensitivity of the sum.
        share_std: Standard deviation of one site's noise, in steps.
        largest: The largest coordinate that a sound sum can have, in steps.
        units: The most units of one site for which ``largest`` holds.
        length: Coordinates.
    """

    step: float
    radius: float
    bound: float
    share_std: float
    largest: float
    units: int
    length: int

    @classmethod
    def of(cls, terms: SumTerms) -> "FixedPoint":
        """Choose the step, from public numbers alone.

        Guarantees:
            The noise of ``terms.honest`` sites is at least ``noise_multiplier * clip_norm``, by as much as
            whole numbers cost (``SMOOTHING``).
            A sum of at most ``units`` units a site keeps below ``largest``, itself at most 2 ** 53, but for
            noise 40 standard deviations out: at most 2 * length * exp(-800) of all sums.

        Raises:
            StudyError: The sum could exceed 2 ** 53 steps.
        """
        wanted = terms.noise_multiplier * terms.clip_norm / math.sqrt(terms.honest)
        coarsest = 2 * _MOST_ROUNDING * terms.clip_norm / math.sqrt(terms.length)
        step = 2.0 ** math.floor(math.log2(min(wanted / _STEPS_IN_NOISE, coarsest)))
        bound = terms.clip_norm / step
        variance = ((terms.noise_multiplier * bound) ** 2 + SMOOTHING**2) / terms.honest
        share_std = math.sqrt(variance) * (1 + 1e-12)
        rounding = math.sqrt(terms.length) * step / 2
        n = len(terms.sites)
        largest = n * terms.units * bound + _TAIL * math.sqrt(n) * share_std
        if not largest <= _LARGEST_SUM:
            raise StudyError(
                f"{terms.units} units a site at noise_multiplier {terms.noise_multiplier:g} could sum to "
                f"{largest:.3g} steps, at most 2 ** 53; lower units, or add noise"
            )
        radius = (terms.clip_norm - rounding) * _ROOM
        return cls(step, radius, bound, share_std, largest, terms.units, terms.length)

    def rounded(self, vector: Float[ndarray, " coordinate"]) -> Int64[ndarray, " coordinate"]:
        """Clip one unit's vector and round it to whole steps.

        Guarantees:
            The L2 norm of the result is at most ``bound``, as a statement on integers.

        Edge cases:
            A vector that is not finite becomes zero: the bound holds and no error tells of it.

        Raises:
            ValueError: It has another length; the length is public.
        """
        if not vector.shape == (self.length,):
            raise ValueError(f"a unit's vector must have shape ({self.length},), got {vector.shape}")
        values = vector.astype(np.float64)
        largest = float(np.abs(values).max())  # first to magnitude 1: squares neither vanish nor overflow
        if not math.isfinite(largest) or largest == 0:
            return np.zeros(self.length, dtype=np.int64)
        shape = values / largest
        length = float(np.linalg.norm(shape))
        if length * largest <= self.radius:
            return np.rint(values / self.step).astype(np.int64)
        return np.rint(shape * (self.radius / length / self.step)).astype(np.int64)

    def total(self, units: Iterable[Float[ndarray, " coordinate"]]) -> Int64[ndarray, " coordinate"]:
        """Return the sum of all units' rounded vectors modulo 2 ** 64; zero where there are none.

        Edge cases:
            More than ``units`` are added all the same: whether a site refused would tell how many it has. The
            sum may then pass ``largest``, and whoever opens it refuses it.
        """
        total = np.zeros(self.length, dtype=np.int64)
        for vector in units:
            total += self.rounded(vector)
        return total

    def real(self, residue: UInt64[ndarray, " coordinate"]) -> Float[ndarray, " coordinate"]:
        """Return a sum modulo 2 ** 64 as float64, an exact multiple of ``step``.

        Raises:
            UpdateRefused: A coordinate is larger than any sound sum's: a mask is left, or a site cheats.
        """
        signed = residue.astype(np.uint64, copy=False).view(np.int64)
        furthest = float(np.abs(signed.astype(np.float64)).max())
        if not furthest <= self.largest:
            raise UpdateRefused(
                f"the sum reaches {furthest:.3g} steps, a sound one at most {self.largest:.3g}: "
                "a mask is left in it, or a site does not clip; try the round anew"
            )
        return signed.astype(np.float64) * self.step
