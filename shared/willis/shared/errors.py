"""Everything that can go wrong, one tree.

* WillisError
  x StudyError          the protocol does not fit               -> fix study.toml            (exit 2)
  x CohortError         an image, label or cohort.csv is unfit  -> fix the export            (exit 2)
  x StateError          a run's folder cannot be used           -> resume, or a new folder   (exit 2)
  x ReleaseError        a release is damaged or does not fit    -> fetch it again            (exit 2)
  x BudgetExhausted     the next step costs more than agreed    -> stop, or agree anew       (exit 1)
  x SiteRefused         a site's own law says no                -> ask the site              (exit 1)
    x OutsideHours      the site trains at other hours          -> ask again in its hours    (exit 1)
  x UpdateRefused       an update is not sound                  -> see the site's log        (exit 1)
  x OrderIncomplete     a site lacks what was not sent again    -> it is sent whole          (exit 1)
  x QuorumMissed        too few sites answered in time          -> resume when they are back (exit 1)
  x Unreachable         a peer or a machine part is not there   -> see the message           (exit 3)

``code`` is what may cross the hospital's wall; the message stays where it was raised.
"""

from collections.abc import Sequence
from typing import ClassVar


class WillisError(Exception):
    """Base of every error that Willis raises on purpose.

    Attributes:
        code: Short name without patient data; the only part that leaves a hospital.
        exit_code: What the ``willis`` command ends with.
    """

    code: ClassVar[str] = "internal"
    exit_code: ClassVar[int] = 1


class InputError(WillisError):
    """Input that does not fit; carries every problem found, not only the first.

    Attributes:
        problems: One sentence each: where, which value, what to do.
    """

    exit_code = 2

    def __init__(self, what: str, problems: Sequence[str] = ()) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join([what, *(f"  * {problem}" for problem in self.problems)]))


class StudyError(InputError):
    """The protocol does not fit."""

    code = "study"


class CohortError(InputError):
    """An image, a label or the table that names them cannot be used."""

    code = "cohort"


class StateError(InputError):
    """A run's folder, a checkpoint or a site's state cannot be used."""

    code = "state"


class ReleaseError(InputError):
    """A release is damaged, or does not fit what is asked of it."""

    code = "release"


class BudgetExhausted(WillisError):
    """The next step costs more than the site agreed to spend."""

    code = "budget"


class SiteRefused(WillisError):
    """The site's own law says no: too few subjects, an unknown study, too loose a budget."""

    code = "site-refuses"


class OutsideHours(SiteRefused):
    """The site answers no round at this hour."""

    code = "hours"


class UpdateRefused(WillisError):
    """An update is not sound: names, shapes, type, finiteness or norm."""

    code = "update"


class OrderIncomplete(WillisError):
    """An order names arrays that the site does not hold; it is sent again whole."""

    code = "incomplete"


class QuorumMissed(WillisError):
    """Too few sites answered before the deadline; nothing was merged."""

    code = "quorum"


class Unreachable(WillisError):
    """A peer, or a part of the machine that was asked for, is not there."""

    code = "unreachable"
    exit_code = 3
