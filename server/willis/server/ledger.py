"""What every site has spent, round by round, as the coordinator heard it: append only, one JSON line each.

The sites' own ledgers are the truth and refuse; this book is for the release and the report.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import Field

from willis.shared.errors import StateError
from willis.shared.privacy import PrivacySpent, PrivacyUnit, all_assumed
from willis.shared.settings import Settings, parse


class SpendingLine(Settings):
    """One site's word in one round.

    Attributes:
        round: From 1.
        site: The site's name.
        spent: All that its cohort paid so far.
        ledger_head: Last hash of its ledger, kept so that the site can prove later that it lost no row.
    """

    round: int = Field(ge=1)
    site: str = Field(min_length=1)
    spent: PrivacySpent
    ledger_head: str


@dataclass(frozen=True, eq=False)
class SpendingBook:
    """The book of one run.

    A line torn by a crash is the last one; it is cut off when the book is opened, and nothing else is lost:
    a line is on disk when ``record`` returns.

    Attributes:
        path: A file of JSON lines; made where there is none.

    Raises:
        StateError: A line before the last is damaged, or the file cannot be written.
    """

    path: Path

    def __post_init__(self) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch()
            whole, size = _whole_part(self.path.read_bytes()), self.path.stat().st_size
            if len(whole) < size:
                os.truncate(self.path, len(whole))
            _flush(self.path)
            _flush(self.path.parent)
        except OSError as fault:
            raise StateError(f"the spending book {self.path} cannot be written: {fault.strerror}") from fault
        self.lines()

    def record(self, number: int, site: str, spent: PrivacySpent, ledger_head: str) -> None:
        """Add what a site told in its answer to a round; on return it is on disk.

        A round that is told twice, after a resume, is written twice.
        """
        line = SpendingLine(round=number, site=site, spent=spent, ledger_head=ledger_head)
        try:
            with self.path.open("ab") as file:
                file.write(line.model_dump_json().encode() + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            raise StateError(
                f"the spending book {self.path} cannot be written ({fault.strerror}); free space and resume"
            ) from fault

    def lines(self) -> list[SpendingLine]:
        """Return all lines in their order."""
        where = f"the spending book {self.path}"
        return [
            parse(
                _json(text, f"{where}, line {n}"), SpendingLine, where=f"{where}, line {n}", error=StateError
            )
            for n, text in enumerate(self.path.read_bytes().split(b"\n")[:-1], start=1)
        ]

    def latest(self) -> dict[str, PrivacySpent]:
        """Return what every site spent: its largest figure, for a loss of privacy is never undone."""
        spent: dict[str, PrivacySpent] = {}
        for line in self.lines():
            if line.site not in spent or line.spent.epsilon >= spent[line.site].epsilon:
                spent[line.site] = line.spent
        return spent

    def heads(self) -> dict[str, str]:
        """Return the last hash that every site told."""
        return {line.site: line.ledger_head for line in self.lines()}

    def network(self) -> PrivacySpent | None:
        """Return the network's figure, None where nothing was told: the largest of the sites'.

        Disjoint patients compose in parallel. A patient seen at two sites is not covered: add theirs.

        Raises:
            StateError: The sites' figures cannot be compared: their delta, unit or relation differ.
        """
        spent = self.latest()
        if not spent:
            return None
        kinds = {(one.delta, one.unit.value, one.relation.value) for one in spent.values()}
        if len(kinds) > 1:
            raise StateError(
                f"the sites of {self.path} counted in {len(kinds)} ways, which cannot be compared: "
                + "; ".join(f"{site} {one.sentence()}" for site, one in sorted(spent.items()))
            )
        worst = max(spent.values(), key=lambda one: one.epsilon)
        worst = worst.model_copy(update={"assumes": all_assumed(one.assumes for one in spent.values())})
        if worst.unit is PrivacyUnit.SUBJECT:
            return worst
        # The worst patient may be at another site than the worst patch.
        patient = max(spent.values(), key=_patient_loss)
        figure = {"patient_epsilon": patient.patient_epsilon, "patient_note": patient.patient_note}
        return worst.model_copy(update=figure)


def _patient_loss(spent: PrivacySpent) -> float:
    return float("inf") if spent.patient_epsilon is None else spent.patient_epsilon


def _whole_part(content: bytes) -> bytes:
    """Return the content without a last line that a crash tore: no line end, or no JSON in it."""
    content = content[: content.rfind(b"\n") + 1]
    start = content.rfind(b"\n", 0, -1) + 1
    try:
        json.loads(content[start:] or "0")
    except ValueError:
        return content[:start]
    return content


def _json(text: bytes, where: str) -> object:
    try:
        return json.loads(text)
    except ValueError as fault:
        raise StateError(f"{where} is damaged: restore the file from a backup, or begin a new run") from fault


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)
