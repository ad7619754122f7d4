"""The papers' GANs as studies: the same one at one site and at four, with a patient's privacy."""

import numpy as np
import pytest

from willis.shared.study import read_study
from willis.shared.synthesis import draw_pairs
from willis.simulations import run
from willis.simulations.run import simulate

ONE = {"quorum": 1, "sites": [{"name": "site-a", "subjects": 6}]}
FOUR = {"quorum": 3, "sites": [{"name": f"site-{letter}", "subjects": 6} for letter in "abcd"]}


@pytest.mark.parametrize("name", ["dcgan", "wgan-gp"])
def test_one_site_and_four_differ_in_the_sites_alone(
    name, tmp_path, tiny_study_file_in, phantom_cohort, monkeypatch
):
    monkeypatch.setattr(run, "_EXPORTED", 3)
    plan = {
        "recipe": {"name": name},
        "training": {"protocol": "pooled", "critic_steps": 1, "rounds": 2},
    }
    outcomes = []
    for federation in (ONE, FOUR):
        sites = tuple(site["name"] for site in federation["sites"])
        folder = tmp_path / str(len(sites))
        folder.mkdir()
        study = tiny_study_file_in(folder, federation=federation, **plan)
        table = phantom_cohort(subjects=8, sites=sites)
        outcomes.append(simulate(study, out=folder / "run", cohort=table, evaluate=False))
    assert [set(outcome.release.sites) for outcome in outcomes] == [
        {"site-a"},
        {"site-a", "site-b", "site-c", "site-d"},
    ]
    one, four = (read_study(outcome.folder / "study.toml") for outcome in outcomes)
    assert one.model_copy(update={"federation": four.federation}) == four
    for outcome in outcomes:
        drawn = draw_pairs(outcome.release, n=4, seed=0).numpy()
        assert drawn.shape == (4, 2, 16, 16)
        assert set(np.unique(drawn[:, -1])) <= {-1.0, 1.0}
        assert len(np.unique(drawn[:, 0], axis=0)) == 4
        assert outcome.release.spent.unit == "subject"
        assert 0.99 * 8 < outcome.release.spent.epsilon <= 8 * (1 + 1e-6)
