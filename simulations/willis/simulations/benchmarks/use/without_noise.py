"""What a recipe learns with the noise off, and what it draws without any information: two ends of a curve.

The noise-off cell is not private. It is computed here alone, from the same draws of units, the same clip and
the same recipe, and never through a site's ledger: no site would sign it. The null is the recipe's own
reading of an answer whose noise is infinite: what it narrows or sharpens without having looked.
"""

import math

import numpy as np

from willis.client.adversaries import Adversaries
from willis.client.chance import Chance
from willis.client.pooled_sum import pooled_sum
from willis.client.randomness import SecretRandom
from willis.server.aggregation import ema, merge
from willis.server.protocols import expected_units
from willis.shared.networks.build import public_generator
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import PooledMean, Question, Recipe
from willis.shared.study import Study
from willis.shared.update import Arrays, arrays_from_state, difference
from willis.simulations.benchmarks.use.cohorts import DataSet


def learn_without_noise(study: Study, data: DataSet) -> dict[str, np.ndarray]:
    """Return what a release would hold had no noise been added. Not private."""
    if study.training.protocol == "local":
        return _local_without_noise(study, data)
    recipe = recipe_of(study)
    state = recipe.start()
    for number in range(1, study.training.rounds + 1):
        question = recipe.question(recipe.order(state, number=number), number=number)
        state = recipe.learn(state, mean_without_noise(question, study, data), number=number)
    return recipe.released(state)


def mean_without_noise(question: Question, study: Study, data: DataSet) -> PooledMean:
    """Return the pooled mean of clipped vectors, no noise on it. Not private."""
    total = np.zeros(question.length)
    for site in data.sites:
        answer = pooled_sum(
            question, store=data.store(site), study=study, noise_multiplier=0.0, chance=fresh_chance()
        )
        total += answer.double().numpy()
    units = sum(expected_units(study, site) for site in data.sites)
    return PooledMean(mean=(total / units).astype(np.float32), std=0.0, units=units)


def learn_nothing(study: Study) -> dict[str, np.ndarray]:
    """Return what a release would hold had every answer been noise alone, without bound. Epsilon 0."""
    recipe = recipe_of(study)
    state = recipe.start()
    units = sum(expected_units(study, site.name) for site in study.federation.sites)
    for number in range(1, study.training.rounds + 1):
        question = recipe.question(recipe.order(state, number=number), number=number)
        empty = PooledMean(mean=np.zeros(question.length, np.float32), std=math.inf, units=units)
        state = recipe.learn(state, empty, number=number)
    return recipe.released(state)


def learned_before(study: Study) -> dict[str, np.ndarray]:
    """Return what a release would hold before the first private sum. Epsilon 0."""
    recipe: Recipe = recipe_of(study)
    start = recipe.start()
    return start if study.training.protocol == "local" else recipe.released(start)


def fresh_chance() -> Chance:
    """Return dice keyed by the operating system."""
    return Chance.keyed(SecretRandom.from_operating_system())


def _local_without_noise(study: Study, data: DataSet) -> dict[str, np.ndarray]:
    model: Arrays = recipe_of(study).start()
    released, memories = dict(model), {}
    weights = {site.name: site.weight for site in study.federation.sites}
    for number in range(1, study.training.rounds + 1):
        moved = {}
        for site in data.sites:
            adversaries = Adversaries.assemble(study, model, memories.get(site))
            adversaries.train(
                study,
                store=data.store(site),
                declared_subjects=study.federation.site(site).subjects,
                noise_multiplier=0.0,
                chance=fresh_chance(),
                dice=public_generator(study.seed, site, number),
            )
            moved[site] = difference(arrays_from_state(adversaries.generator.state_dict()), model)
            memories[site] = adversaries.memory()
        model = merge(model, moved, weights=weights)
        released = ema(released, model, decay=study.training.ema)
    return released
