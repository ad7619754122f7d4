"""What every way of asking a PACS has in common."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from willis.client.pacs.spool import Arrived, Verdict

Deliver = Callable[[Arrived], Verdict]


@dataclass(frozen=True, repr=False)
class Listed:
    """An instance that a PACS says it has.

    Attributes:
        series: SeriesInstanceUID.
        instance: SOPInstanceUID.
        sop_class: SOPClassUID; empty where the PACS does not tell.
    """

    series: str
    instance: str
    sop_class: str


class Broken(Exception):
    """The PACS did not answer, or broke off; worth another try.

    Attributes:
        answered: Whether it was there at all.
    """

    def __init__(self, what: str, *, answered: bool) -> None:
        self.answered = answered
        super().__init__(what)


class StudySource(Protocol):
    """One way of asking a PACS."""

    def listing(self, study: str) -> list[Listed]:
        """Return the instances of a study; none where the PACS does not know it."""
        ...

    def bring(self, study: str, wanted: Sequence[Listed], deliver: Deliver) -> None:
        """Ask for instances of a study and hand on what comes."""
        ...
