"""What the coordinator asks of a site in one step of a secure sum."""

from pydantic import Field

from willis.shared.settings import Settings
from willis.shared.study import Name

CARD, SHARES, MASKED, VOW, REVEALED = range(5)
ORDERED = frozenset({CARD, MASKED})  # steps whose message carries the round's order


class StepRequest(Settings):
    """Which step of which sum; what it is about travels beside it.

    Attributes:
        run: Name of the run.
        round: From 1.
        attempt: From 1.
        step: 0 to 4, see ``messages``.
    """

    run: Name
    round: int = Field(ge=1)
    attempt: int = Field(ge=1)
    step: int = Field(ge=CARD, le=REVEALED)
