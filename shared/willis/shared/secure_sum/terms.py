"""What all agree on before a secure sum: who, how many must stay, how long the vector, how much noise.

Public; every site builds the terms from the study and from its own list of sites, never from what the
coordinator says. Their digest stands in all that is signed, sealed or masked, so a message of another run,
round, question or agreement fits nowhere.
"""

import math

from pydantic import Field, model_validator

from willis.shared.accounting import LARGEST_NOISE, SMALLEST_NOISE
from willis.shared.settings import Settings, refuse
from willis.shared.study import Name
from willis.shared.update import Digest

MOST_SITES = 100
MOST_COORDINATES = 10_000_000


class SumTerms(Settings):
    """The agreement on one secure sum.

    Attributes:
        run: Name of the run.
        round: From 1.
        attempt: From 1; another one where a round is tried anew, which is paid for anew.
        order_digest: SHA-256 of the order that asks the question; one question for all sites.
        sites: Names of all sites, sorted. The place in this list is the site's number.
        quorum: The least sites that a sum is made of, and the shares that open a secret.
        colluders: The most sites that may tell the coordinator what they know, their own noise included.
            Everyone who reads the sum and knows its own noise is one: 1 where sites are curious.
        length: Coordinates of the vector.
        clip_norm: L2 bound of one unit's vector.
        noise_multiplier: Standard deviation, in units of ``clip_norm``, of the noise that is left when only
            ``quorum`` sites stay and ``colluders`` of them subtract their own: what the accountant is told.
        units: The most units of one site in one sum for which the sum is sure not to wrap; a public bound,
            not a count.
    """

    run: Name
    round: int = Field(ge=1)
    attempt: int = Field(default=1, ge=1)
    order_digest: Digest
    sites: tuple[Name, ...] = Field(min_length=2, max_length=MOST_SITES)
    quorum: int = Field(ge=2, le=MOST_SITES)
    colluders: int = Field(default=1, ge=0)
    length: int = Field(ge=1, le=MOST_COORDINATES)
    clip_norm: float = Field(gt=0, le=1e6, ge=1e-6)
    noise_multiplier: float = Field(ge=SMALLEST_NOISE, le=LARGEST_NOISE)
    units: int = Field(default=10_000, ge=1, le=1_000_000)

    @property
    def honest(self) -> int:
        """Sites whose noise is counted on: ``quorum`` less ``colluders``."""
        return self.quorum - self.colluders

    def number(self, site: str) -> int:
        """Return a site's number, from 1: the place of its shares of every secret."""
        return self.sites.index(site) + 1

    @model_validator(mode="after")
    def _fits(self) -> "SumTerms":
        faults = []
        if list(self.sites) != sorted(set(self.sites)):
            faults.append(f"sites: must be sorted and name each once, got {list(self.sites)}")
        if not self.quorum <= len(self.sites):
            faults.append(f"quorum: must be at most the {len(self.sites)} sites, got {self.quorum}")
        if not self.colluders < self.quorum:
            faults.append(f"colluders: must be fewer than the quorum {self.quorum}, got {self.colluders}")
        if not 2 * self.quorum > len(self.sites) + self.colluders:
            # Else two lists of survivors could each find a quorum of signatures (Bonawitz 2017, theorem 6.5).
            least = least_quorum(len(self.sites), colluders=self.colluders)
            faults.append(
                f"quorum: must be at least {least} of {len(self.sites)} sites against {self.colluders} "
                f"colluders, got {self.quorum}"
            )
        refuse(faults)
        return self


def least_quorum(sites: int, *, colluders: int) -> int:
    """Return the smallest quorum for which no coordinator can have two lists of survivors signed.

    Each list needs ``quorum`` signatures; colluders sign both, honest sites one: 2 quorum > sites +
    colluders (Bonawitz 2017, theorem 6.5). It may exceed ``sites``: then so many colluders are too many.
    """
    if not (sites >= 2 and 0 <= colluders < sites):
        raise ValueError(
            f"2 sites at least and fewer colluders than sites, got {sites} sites, {colluders} colluders"
        )
    return max(2, math.floor((sites + colluders) / 2) + 1)
