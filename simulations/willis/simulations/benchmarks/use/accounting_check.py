"""Every cell's epsilon, counted again from its sites' ledgers: a line that claims less is found.

A ledger's rows are chained by hashes, so a row that was altered is seen; a row that was honestly written with
too little noise costs more than the line says; a round that no row paid for is missed by its number.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

from willis.client.ledger import Ledger, LedgerRow
from willis.shared import accounting
from willis.shared.errors import WillisError
from willis.shared.privacy import PrivacySpent, PrivacyUnit
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.simulations.benchmarks.use.cells import as_number
from willis.simulations.benchmarks.use.results import Line, read_lines

_ROUNDING = 1e-6  # relative: the same figure computed twice, or written and read


def check_accounting(folder: Path) -> list[str]:
    """Count every cell's epsilon again.

    For every private line, from the rows of every site's ledger in the cell's folder:
        1. The chain of hashes holds, and every row is of the study that the line names.
        2. Epsilon of all rows at the study's delta is what the line says of this site, and not above the
           cell's own epsilon.
        3. Delta, unit and relation are the study's.
        4. Every answer that the coordinator counted was paid for.
    The network's figure is the largest of the sites'. A line that is public or not private names no spending
    and has no ledger.

    Args:
        folder: The bench's, with ``results.jsonl`` and ``cells/``.

    Returns:
        One sentence for every fault: which cell, which site, which numbers. Empty where all is well.
    """
    faults = []
    for line in read_lines(folder / "results.jsonl"):
        where = folder / "cells" / line.key
        found = _private_faults(line, where) if line.privacy == "private" else _open_faults(line, where)
        faults += [f"{line.key}: {fault}" for fault in found]
    return faults


def _open_faults(line: Line, where: Path) -> list[str]:
    faults = []
    expected = 0.0 if line.privacy == "public" else math.inf
    if as_number(line.epsilon) != expected:
        faults.append(f"{line.privacy}, and claims epsilon {line.epsilon}")
    if line.sites or line.network is not None:
        faults.append(f"{line.privacy}, and names spending of {', '.join(line.sites) or 'the network'}")
    if any(where.glob("sites/*/ledger.sqlite")):
        faults.append(f"{line.privacy}, and has a ledger")
    return faults


def _private_faults(line: Line, where: Path) -> list[str]:
    owner = _owner(line, where)
    try:
        study = _study(owner)
    except WillisError as fault:
        return [str(fault)]
    faults = []
    if study.digest() != line.study_digest:
        faults.append(f"study {study.digest()[:12]} was run, the line names {line.study_digest[:12]}")
    if line.network is None or not line.sites:
        return [*faults, "private, and names no spending"]
    answers = _answers(owner, study)
    for site in sorted({*line.sites, *answers}):
        if site not in line.sites:
            faults.append(f"{site} answered, and its spending is missing")
            continue
        told = line.sites[site]
        try:
            rows = _rows(owner / "sites" / site, study)
        except WillisError as fault:
            faults.append(f"{site}: {fault}")
            continue
        faults += [f"{site}: {fault}" for fault in _site_faults(told, rows, study, as_number(line.epsilon))]
        faults += _unpaid(site, rows, answers.get(site, 0), study)
    return faults + _network_faults(line.network, line.sites)


def _owner(line: Line, where: Path) -> Path:
    """Return the folder of the cell that trained: a cell with real subjects shares another's generator."""
    mixed = f"/{line.row}+{line.real_subjects}-real/"
    if not line.real_subjects:
        return where
    return Path(str(where).replace(mixed, f"/{line.row}/"))


def _study(where: Path) -> Study:
    path = where / "study.json"
    if not path.exists():
        raise WillisError("the cell's folder holds no study.json: its ledgers cannot be read")
    return parse(json.loads(path.read_text(encoding="utf-8")), Study, where=str(path))


def _rows(site: Path, study: Study) -> list[LedgerRow]:
    if not (site / "ledger.sqlite").exists():
        raise WillisError("the line says it spent, and there is no ledger")
    per_patch = study.privacy.unit is PrivacyUnit.PATCH
    with Ledger.open(
        site / "ledger.sqlite",
        cohort=site.name,
        epsilon_cap=study.privacy.epsilon,
        delta=study.privacy.delta,
        unit=study.privacy.unit,
        patches_per_patient=study.patch.per_subject if per_patch else None,
    ) as ledger:
        ledger.verify()
        return ledger.rows()


def _site_faults(told: PrivacySpent, rows: Sequence[LedgerRow], study: Study, cap: float) -> list[str]:
    plan = study.privacy
    per_patch = plan.unit is PrivacyUnit.PATCH
    counted = accounting.spent(
        [row.run for row in rows],
        delta=plan.delta,
        unit=plan.unit,
        patches_per_patient=study.patch.per_subject if per_patch else None,
    )
    assumes = "; ".join(sorted({row.assumes for row in rows if row.assumes}))
    faults = []
    if not math.isclose(told.epsilon, counted.epsilon, rel_tol=_ROUNDING):
        faults.append(f"the line says epsilon {told.epsilon:.6g}, its ledger counts {counted.epsilon:.6g}")
    if not counted.epsilon <= cap * (1 + _ROUNDING):
        faults.append(f"its ledger counts epsilon {counted.epsilon:.6g}, the cell's is {cap:g}")
    if not math.isclose(_of_patient(told), _of_patient(counted), rel_tol=_ROUNDING):
        faults.append(f"per patient the line says {told.patient_epsilon}, counted {counted.patient_epsilon}")
    if (told.delta, told.unit, told.relation) != (plan.delta, plan.unit, plan.relation):
        faults.append(f"the line says {told.sentence()}; counted is {counted.sentence()}")
    if told.assumes != assumes:
        faults.append(f"the line assumes {told.assumes or 'nothing'!r}, its ledger {assumes or 'nothing'!r}")
    strangers = {row.study for row in rows} - {study.digest()}
    if strangers:
        faults.append(f"its ledger paid for {len(strangers)} other studies")
    return faults


def _of_patient(spent: PrivacySpent) -> float:
    return math.inf if spent.patient_epsilon is None else spent.patient_epsilon


def _answers(where: Path, study: Study) -> dict[str, int]:
    """Return how many rounds of every site the coordinator counted; nothing where rounds had none."""
    book = where / "metrics.jsonl"
    counted: dict[str, int] = {}
    if book.exists():
        for text in book.read_text(encoding="utf-8").splitlines():
            for site in json.loads(text)["answered"]:
                counted[site] = counted.get(site, 0) + 1
    else:
        counted = {site.name: study.training.rounds for site in study.federation.sites}
    return counted


def _unpaid(site: str, rows: Sequence[LedgerRow], answered: int, study: Study) -> list[str]:
    wanted, paid = answered * study.training.critic_steps, sum(row.run.steps for row in rows)
    if paid >= wanted:
        return []
    return [f"{site}: {wanted} private draws were answered, {paid} were paid for"]


def _network_faults(network: PrivacySpent, sites: dict[str, PrivacySpent]) -> list[str]:
    largest = max(spent.epsilon for spent in sites.values())
    if math.isclose(network.epsilon, largest, rel_tol=_ROUNDING):
        return []
    return [f"the network's epsilon is {network.epsilon:.6g}, the largest of its sites {largest:.6g}"]
