"""Hospitals that answer one question by secure aggregation, through both Flower apps or one by one."""

import numpy as np
import pytest
from flwr.app import UserConfig

from willis.client import app as client_door
from willis.client import secure_round
from willis.server import protocols
from willis.server.rounds import run_rounds
from willis.shared.recipes.contract import PooledMean
from willis.shared.study import Study
from willis.shared.update import RoundOrder
from willis.simulations.local_grid import LocalGrid


def secure_changes(names: tuple[str, ...], *, rounds: int) -> dict:
    """What makes the tiny study one of a secure sum of three subjects each; one site may collude."""
    return {
        "patch": {"size": [16, 16], "per_subject": 2},
        "privacy": {"sampling_rate": 1.0, "clip_norm": 100.0},
        "training": {"protocol": "pooled", "rounds": rounds, "critic_steps": 1},
        "federation": {
            "quorum": 3,
            "deadline_s": 30,
            "secure": {"colluders": 1},
            "sites": [{"name": name, "subjects": 3} for name in names],
        },
    }


class MeanItself:
    """A recipe that asks for one vector and learns its mean itself; who inherits says the vector."""

    length: int

    def order(self, state, *, number):
        return {"number": np.full(1, number, np.float32)}

    def question(self, order, *, number):
        return self

    def learn(self, state, answer: PooledMean, *, number):
        return {"mean": answer.mean, "std": np.full(1, answer.std, np.float32)}

    def released(self, state):
        return state


def put_in_place(recipe: MeanItself, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let sites and coordinator take this recipe for the study's."""
    for module in (secure_round, protocols):
        monkeypatch.setattr(module, "recipe_of", lambda _: recipe)


def order_of(study: Study, *, number: float = 1) -> RoundOrder:
    """The order of round 1, without a grid."""
    return RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=study.digest(),
        run="run-1",
        round=1,
        arrays={"number": np.full(1, number, np.float32)},
    )


def run_study(study: Study, run, recipe: MeanItself | type[MeanItself], *, resume=False):
    """Run the rounds of the study over all its sites."""
    names = [site.name for site in study.federation.sites]
    nodes: list[UserConfig] = [{"site-settings": str(run / "sites" / name / "site.toml")} for name in names]
    start = {"mean": np.zeros(recipe.length, np.float32)}
    grid = LocalGrid(client_door.app, nodes)
    return run_rounds(grid, study, folder=run, initial=start, resume=resume, patience_s=0.01)
