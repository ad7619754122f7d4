"""A ledger and one run of which it pays."""

import multiprocessing
from pathlib import Path

from willis.client.ledger import Ledger
from willis.shared.accounting import MechanismRun, epsilon
from willis.shared.privacy import PrivacyUnit

DELTA = 1e-5
RUN = MechanismRun(sampling_rate=0.25, noise_multiplier=4.0, steps=20)
COST = epsilon([RUN], delta=DELTA)
processes = multiprocessing.get_context("fork")  # quick: everything is imported already


def opened(path: Path, *, cap: float = 100.0, **other) -> Ledger:
    terms = {"cohort": "cohort-a", "delta": DELTA, "unit": PrivacyUnit.SUBJECT} | other
    return Ledger.open(path, epsilon_cap=cap, **terms)


def reserved(ledger: Ledger, purpose: str = "run/round-1", *, inputs: str = "i", run: MechanismRun = RUN):
    return ledger.reserve(study="s", purpose=purpose, inputs=inputs, run=run)
