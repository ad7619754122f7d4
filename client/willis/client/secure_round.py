"""A site's side of a round under secure aggregation: obey the law, pay, sum, mask; step by step, resumable.

What a step answers is on the site's disk before it leaves. A sum is paid for, and its noise drawn, in the
step that masks it; asked again, the site sends the same bytes. A round tried anew is another sum, paid anew.
"""

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from willis.client.chance import Chance
from willis.client.pooled_sum import rehearse, unit_vectors
from willis.client.randomness import SecretRandom
from willis.client.secure_site import SecureSite
from willis.client.site import SiteSettings
from willis.client.site_state import SiteMemory
from willis.client.store import PatchStore
from willis.client.training import accept, open_ledger
from willis.shared.errors import SiteRefused, StateError, StudyError
from willis.shared.mechanism import mechanism_of
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import Question
from willis.shared.secure_sum.agreement import assumption, terms_of
from willis.shared.secure_sum.messages import CardList, Inbox, Survivors, Vows
from willis.shared.secure_sum.noise import discrete_gaussian
from willis.shared.secure_sum.request import CARD, MASKED, ORDERED, SHARES, VOW, StepRequest
from willis.shared.secure_sum.terms import SumTerms
from willis.shared.study import Study
from willis.shared.update import RoundOrder, SiteAnswer
from willis.shared.whole_file import write_whole

_KEPT = 2  # sums that a site remembers


@dataclass(frozen=True)
class StepAnswer:
    """What a site answers to a step.

    Attributes:
        payload: The step's message as bytes.
        paid: In the step that masks: what the site has paid, without arrays.
    """

    payload: bytes
    paid: SiteAnswer | None = None


@dataclass
class _Sum:
    """A secure sum as the site's disk has it.

    Attributes:
        reservation: The ledger's row that paid for it; 0 before.
        ledger_head: The ledger's last hash when the run last paid; empty before.
    """

    path: Path
    terms: SumTerms
    site: SecureSite
    reservation: int = 0
    ledger_head: str = ""

    def keep(self) -> None:
        kept = {
            "terms": self.terms.model_dump(mode="json"),
            "site": b64encode(self.site.export()).decode(),
            "reservation": self.reservation,
            "ledger_head": self.ledger_head,
        }
        write_whole(self.path, json.dumps(kept).encode(), private=True)
        for old in sorted(self.path.parent.glob("secure-*.json"))[:-_KEPT]:
            old.unlink()


def answer_step(
    request: StepRequest, payload: bytes, order: RoundOrder | None, settings: SiteSettings
) -> StepAnswer:
    """Answer one step of a secure sum.

    Args:
        request: Which step of which sum.
        payload: The step's message from the coordinator; empty in step 0.
        order: In the steps that need it: the round's order.
        settings: The site's.

    Raises:
        SiteRefused: The study is outside the site's law, or the step is out of turn.
        StudyError: The order does not fit the request or the study; nothing was paid.
        UpdateRefused: The payload is not sound.
        BudgetExhausted: The ledger cannot pay for the sum.
        StateError: The site's disk or state is not usable.
    """
    if request.step in ORDERED and not (
        order is not None and (order.run, order.round) == (request.run, request.round)
    ):
        raise StudyError(f"step {request.step} of a secure sum needs the order of its run and round")
    memory = SiteMemory(settings.state / "runs" / request.run)
    with memory.alone():
        path = memory.folder / f"secure-{request.round:06d}-{request.attempt:06d}.json"
        if request.step == CARD:
            assert order is not None
            return _begin(order, settings, path, attempt=request.attempt)
        known = _recall(path, settings)
        if request.step == MASKED:
            assert order is not None
            return _mask(known, Inbox.from_bytes(payload), order, settings)
        return _exchange(known, request.step, payload)


def _begin(order: RoundOrder, settings: SiteSettings, path: Path, *, attempt: int) -> StepAnswer:
    study, _ = accept(order, settings)
    question = _question(study, order)
    terms = terms_of(study, order, attempt=attempt, length=question.length)
    if path.exists():
        known = _recall(path, settings)
        if known.terms != terms:
            raise SiteRefused("this attempt of the round was begun on other terms; begin another attempt")
        return StepAnswer(known.site.advertise().to_bytes())
    rehearse(question, study)
    site = SecureSite(
        settings.name,
        terms,
        signer=settings.signer(),
        roster=settings.roster(),
        noise=discrete_gaussian,
    )
    _Sum(path, terms, site, ledger_head=_last_head(path.parent)).keep()
    return StepAnswer(site.advertise().to_bytes())


def _exchange(known: _Sum, step: int, payload: bytes) -> StepAnswer:
    if step == SHARES:
        answer = known.site.share(CardList.from_bytes(payload))
    elif step == VOW:
        answer = known.site.vow(Survivors.from_bytes(payload))
    else:
        answer = known.site.unmask(Vows.from_bytes(payload))
    known.keep()
    return StepAnswer(answer.to_bytes())


def _mask(known: _Sum, inbox: Inbox, order: RoundOrder, settings: SiteSettings) -> StepAnswer:
    study, store = accept(order, settings)
    if known.terms.order_digest != order.digest():
        raise StudyError("the order is not the one that this secure sum was begun with")
    question = _question(study, order)
    with open_ledger(settings, study) as ledger:
        if known.reservation:
            masked = known.site.masked(inbox, ())  # the same words again; no unit is looked at
        else:
            known.site.prove(inbox)  # what will be refused is not paid for
            if known.ledger_head:  # a ledger that was lost, or an older copy, does not pay on
                ledger.verify([known.ledger_head])
            inputs = known.terms.digest() + store.index.key + settings.name
            reservation = ledger.reserve(
                study=study.digest(),
                purpose=f"{order.run}/round-{order.round}/attempt-{known.terms.attempt}",
                inputs=hashlib.sha256(inputs.encode()).hexdigest(),
                run=mechanism_of(study, steps=1),
                assumes=assumption(study),
            )
            chance = Chance.keyed(SecretRandom(reservation.key))
            masked = known.site.masked(inbox, _vectors(question, store, study, chance))
            known.reservation, known.ledger_head = reservation.id, ledger.head()
            known.keep()
        ledger.settle(known.reservation)
        paid = SiteAnswer(
            arrays={},
            site=settings.name,
            round=order.round,
            order_digest=order.digest(),
            spent=ledger.spent(),
            ledger_head=ledger.head(),
        )
    return StepAnswer(masked.to_bytes(), paid)


def _vectors(question: Question, store: PatchStore, study: Study, chance: Chance) -> Iterator[np.ndarray]:
    for vector in unit_vectors(question, store=store, study=study, chance=chance):
        yield vector.double().numpy()


def _question(study: Study, order: RoundOrder) -> Question:
    return recipe_of(study).question(order.arrays, number=order.round)


def _recall(path: Path, settings: SiteSettings) -> _Sum:
    if not path.exists():
        raise SiteRefused(
            "the site has not begun this secure sum, or has forgotten it; begin another attempt"
        )
    try:
        kept = json.loads(path.read_bytes())
        terms = SumTerms.model_validate(kept["terms"])
        state, reservation, head = b64decode(kept["site"]), int(kept["reservation"]), str(kept["ledger_head"])
    except (OSError, ValueError, KeyError, TypeError) as fault:
        raise _damaged(path, fault) from fault
    site = SecureSite.restore(
        state,
        settings.name,
        terms,
        signer=settings.signer(),
        roster=settings.roster(),
        noise=discrete_gaussian,
    )
    return _Sum(path, terms, site, reservation, head)


def _last_head(folder: Path) -> str:
    """Return the ledger's last hash as the newest sum of the run knows it."""
    for path in sorted(folder.glob("secure-*.json"))[-1:]:
        try:
            return str(json.loads(path.read_bytes())["ledger_head"])
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise _damaged(path, fault) from fault
    return ""


def _damaged(path: Path, fault: Exception) -> StateError:
    return StateError(
        f"the site's state {path} is damaged ({type(fault).__name__}); restore it from a backup, or begin "
        "a new run: the ledger keeps what was spent"
    )
