"""One check's verdict."""

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Check:
    """What one check found.

    Attributes:
        name: What was checked.
        state: ``fault`` where the site must not, or cannot, run.
        sentence: What was found, and what to do.
        exit_code: 0 unless it is a fault: 1 refused, 2 bad input or configuration, 3 unreachable.
    """

    name: str
    state: Literal["ok", "warning", "fault"]
    sentence: str
    exit_code: int = 0
