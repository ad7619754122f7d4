"""Rounds of a recipe that no study can name, paid for by the sites' own ledgers.

The private U-net is no generator, so Flower's apps do not know it. Its rounds run here, from the same parts:
reserve in the ledger, one private sum a site, learn, save; a round is settled once its state is on disk. A
round that was paid for and did not end repeats the same draws under the same key: it is the same release.
"""

import hashlib
import io
import math
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from willis.client.chance import Chance
from willis.client.ledger import Ledger
from willis.client.pooled_sum import pooled_sum
from willis.client.randomness import SecretRandom
from willis.client.training import open_ledger
from willis.server.protocols import pooled_mean
from willis.shared.mechanism import mechanism_of
from willis.shared.privacy import PrivacySpent
from willis.shared.study import Study
from willis.shared.update import digest
from willis.shared.whole_file import write_whole
from willis.simulations.benchmarks.use.cohorts import DataSet
from willis.simulations.benchmarks.use.federated_cell import open_site
from willis.simulations.benchmarks.use.private_unet import PrivateUnet
from willis.simulations.benchmarks.use.without_noise import mean_without_noise

State = dict[str, np.ndarray]


def learn_privately(
    recipe: PrivateUnet, study: Study, data: DataSet, *, folder: Path
) -> tuple[State, dict[str, PrivacySpent]]:
    """Run all rounds from where they stand; return the last state and what every site spent.

    Args:
        recipe: What is asked and learned.
        study: Its ``training.rounds`` draws; protocol ``pooled``.
        data: Whose patches.
        folder: The cell's own.

    Raises:
        BudgetExhausted: A ledger cannot pay.
        StateError: A ledger or the folder is not usable.
    """
    kept = folder / "state.npz"
    number, state = _read(kept) if kept.exists() else (0, recipe.start())
    with ExitStack() as stack:
        ledgers = {
            site: stack.enter_context(
                open_ledger(open_site(study, site, hospitals=data.folder / "sites", folder=folder), study)
            )
            for site in data.sites
        }
        _settle(ledgers, up_to=number)
        while number < study.training.rounds:
            number += 1
            state = _round(recipe, study, data, state, number=number, ledgers=ledgers)
            write_whole(kept, _bytes(state, number))
            _settle(ledgers, up_to=number)
        return state, {site: ledger.spent() for site, ledger in ledgers.items()}


def learn_openly(recipe: PrivateUnet, study: Study, data: DataSet) -> State:
    """Run all rounds with the noise off. Not private, and in no ledger."""
    state = recipe.start()
    for number in range(1, study.training.rounds + 1):
        question = recipe.question(recipe.order(state, number=number), number=number)
        state = recipe.learn(state, mean_without_noise(question, study, data), number=number)
    return state


def worst(spent: Mapping[str, PrivacySpent]) -> PrivacySpent:
    """Return the bound for a patient seen at one site only: the largest of the sites'."""
    if not spent:
        raise ValueError("at least one site must have spent something, got none")
    return max(spent.values(), key=lambda one: (one.epsilon, one.patient_epsilon or math.inf))


def _round(
    recipe: PrivateUnet,
    study: Study,
    data: DataSet,
    state: State,
    *,
    number: int,
    ledgers: Mapping[str, Ledger],
) -> State:
    order = recipe.order(state, number=number)
    question = recipe.question(order, number=number)
    run = mechanism_of(study, steps=1)
    sums = {}
    for site, ledger in ledgers.items():
        store = data.store(site)
        reservation = ledger.reserve(
            study=study.digest(),
            purpose=_purpose(number),
            inputs=hashlib.sha256((digest(order) + store.index.key).encode()).hexdigest(),
            run=run,
        )
        chance = Chance.keyed(SecretRandom(reservation.key))
        answer = pooled_sum(
            question, store=store, study=study, noise_multiplier=run.noise_multiplier, chance=chance
        )
        sums[site] = answer.numpy()
    return recipe.learn(state, pooled_mean(study, sums), number=number)


def _purpose(number: int) -> str:
    return f"private-unet/round-{number}"


def _settle(ledgers: Mapping[str, Ledger], *, up_to: int) -> None:
    """Settle every round whose outcome is on disk."""
    done = {_purpose(number) for number in range(1, up_to + 1)}
    for ledger in ledgers.values():
        for row in ledger.rows():
            if not row.settled and row.purpose in done:
                ledger.settle(row.id)


def _bytes(state: State, number: int) -> bytes:
    data = io.BytesIO()
    np.savez(data, number=np.array(number), **state)  # pyright: ignore[reportArgumentType]  (names, not options)
    return data.getvalue()


def _read(path: Path) -> tuple[int, State]:
    with np.load(path, allow_pickle=False) as held:
        arrays = dict(held)
    return int(arrays.pop("number")), arrays
