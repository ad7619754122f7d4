"""One round at one site: obey the site's law, pay, train or sum, keep, answer."""

import hashlib
from collections.abc import Callable
from datetime import datetime
from typing import Any

import torch

from willis.client.chance import Chance
from willis.client.ledger import Ledger
from willis.client.opt_out import opted_out, without
from willis.client.pooled_sum import pooled_sum, rehearse
from willis.client.randomness import SecretRandom
from willis.client.site import SiteSettings
from willis.client.site_state import SiteMemory, SiteState
from willis.client.store import PatchStore, open_store
from willis.shared.errors import SiteRefused
from willis.shared.mechanism import mechanism_of
from willis.shared.networks.build import public_generator
from willis.shared.privacy import PrivacyUnit
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.study import Study, parse_study
from willis.shared.update import (
    SUM,
    Arrays,
    RoundOrder,
    SiteAnswer,
    arrays_from_state,
    clip_update,
    difference,
    state_from_arrays,
)
from willis.shared.wire_precision import bound_before_rounding, narrowed


def train_round(order: RoundOrder, settings: SiteSettings) -> SiteAnswer:
    """Answer a round's order.

    Steps:
        1. The site's own law: is this study within what the site allows?
        2. An order answered before gets the same answer again, at no cost.
        3. Pay: reserve the round's critic steps in the ledger. A round that was paid for and did not end
           repeats the same draws under the same reservation, so it is the same release.
        4. Protocol ``local``: ``critic_steps`` private critic steps; after every ``critic_per_generator`` of
           them the generator's steps, on fakes alone; the answer is the difference of the generator's
           weights. Protocol ``pooled``: the answer is the private sum of what the recipe asks.
        5. Keep state and answer on disk, settle, answer.

    Raises:
        SiteRefused: The study is outside the site's law, or has no such round.
        StudyError: The order's arrays do not fit the study; nothing was paid.
        BudgetExhausted: The ledger cannot pay for the round.
        StateError: The site's disk or state is not usable.
    """
    study, store = accept(order, settings)
    if study.federation.secure is not None:
        raise SiteRefused(
            "the study aggregates securely: a site answers it step by step, never with its own sum"
        )
    memory = SiteMemory(settings.state / "runs" / order.run)
    with memory.alone(), open_ledger(settings, study) as ledger:
        done = memory.at(order.round)
        if done is None or done.order_digest != order.digest():
            done = _pay_and_train(order, study, settings, memory=memory, store=store, ledger=ledger)
            memory.keep(done)
        ledger.settle(done.reservation)
        return SiteAnswer(
            arrays=narrowed(arrays_from_state(done.answer), study, settings.name),
            site=settings.name,
            round=order.round,
            order_digest=order.digest(),
            spent=ledger.spent(),
            ledger_head=ledger.head(),
        )


def accept(order: RoundOrder, settings: SiteSettings) -> tuple[Study, PatchStore]:
    """Return an order's study, and the patches that it is about, where the site's law allows both.

    Raises:
        SiteRefused: The study is outside the site's law or hours, or has no such round.
        StateError: The patches, or the list of who opted out, are not usable.
    """
    study = parse_study(order.study_json, where="the order's study")
    settings.check_study(study)
    settings.check_hours(datetime.now())
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    store = without(open_store(settings.store), opted_out(settings.optout))
    _check_store(store, study, settings)
    if order.round > study.training.rounds:
        raise SiteRefused(f"round {order.round} was asked for, the study has {study.training.rounds}")
    return study, store


def open_ledger(settings: SiteSettings, study: Study) -> Ledger:
    """Open the ledger that pays for a study at a site."""
    per_patch = study.privacy.unit is PrivacyUnit.PATCH
    return Ledger.open(
        settings.ledger,
        cohort=settings.cohort_key,
        epsilon_cap=settings.epsilon_cap,
        delta=study.privacy.delta,
        unit=study.privacy.unit,
        patches_per_patient=study.patch.per_subject if per_patch else None,
    )


def _check_store(store: PatchStore, study: Study, settings: SiteSettings) -> None:
    # A study that the site did not agree to by name cannot be varied to count the cohort: only the site's own
    # minimum meets the true number then.
    agreed = settings.studies is not None
    least = max(settings.minimum_subjects, study.federation.minimum_subjects if agreed else 1)
    if store.n_subjects < least:
        raise SiteRefused(f"the cohort has {store.n_subjects} subjects, at least {least} are needed")
    if store.spec != study.patch:
        raise SiteRefused(
            "the site's patches were cut to another specification than the study's; cut them again"
        )


def _pay_and_train(
    order: RoundOrder,
    study: Study,
    settings: SiteSettings,
    *,
    memory: SiteMemory,
    store: PatchStore,
    ledger: Ledger,
) -> SiteState:
    last = memory.last_before(order.round)  # a site that missed a round goes on from the one before
    past = memory.at(last)
    if past is not None:
        ledger.verify([past.ledger_head])  # a ledger that was lost, or an older copy, does not pay on
    work = _work(order, study, settings, past=past, store=store)
    # All that the draws meet, and whose they are (sites may share a ledger): under the same noise anything
    # else would let the noise cancel.
    start = order.digest() + memory.fingerprint(last) + store.index.key + settings.name
    run = mechanism_of(study, steps=study.training.critic_steps)
    reservation = ledger.reserve(
        study=study.digest(),
        purpose=f"{order.run}/round-{order.round}",
        inputs=hashlib.sha256(start.encode()).hexdigest(),
        run=run,
    )
    networks, answer = work(run.noise_multiplier, Chance.keyed(SecretRandom(reservation.key)))
    return SiteState(
        round=order.round,
        order_digest=order.digest(),
        reservation=reservation.id,
        ledger_head=ledger.head(),
        networks=networks,
        answer=state_from_arrays(answer),
    )


# What is left to do once a round is paid for: from noise multiplier and dice to networks to keep, and answer.
_Work = Callable[[float, Chance], tuple[dict[str, Any], Arrays]]


def _work(
    order: RoundOrder, study: Study, settings: SiteSettings, *, past: SiteState | None, store: PatchStore
) -> _Work:
    """Bring a round to where only patients are missing; whatever does not fit is refused here, unpaid."""
    if study.training.protocol == "pooled":
        question = recipe_of(study).question(order.arrays, number=order.round)
        rehearse(question, study)

        def answer_sum(multiplier: float, chance: Chance) -> tuple[dict[str, Any], Arrays]:
            total = pooled_sum(question, store=store, study=study, noise_multiplier=multiplier, chance=chance)
            return {}, {SUM: total.numpy()}

        return answer_sum
    from willis.client.adversaries import (
        Adversaries,  # a second to import, which a pooled round need not wait
    )

    adversaries = Adversaries.assemble(study, order.arrays, None if past is None else past.networks)

    def train(multiplier: float, chance: Chance) -> tuple[dict[str, Any], Arrays]:
        adversaries.train(
            study,
            store=store,
            declared_subjects=study.federation.site(settings.name).subjects,
            noise_multiplier=multiplier,
            chance=chance,
            dice=public_generator(study.seed, settings.name, order.round),
        )
        moved = difference(arrays_from_state(adversaries.generator.state_dict()), order.arrays)
        bound = min(study.federation.update_norm, settings.max_update_norm)
        return adversaries.memory(), clip_update(moved, bound_before_rounding(bound, study))

    return train
