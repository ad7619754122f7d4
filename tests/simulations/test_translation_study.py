"""The recipes of Platscher 2021 from end to end: one site or four, by the sites' lines of the study alone."""

import pytest

from willis.shared.release import read_release
from willis.shared.study import read_study
from willis.shared.synthesis import draw_pairs
from willis.simulations import run
from willis.simulations.run import simulate


@pytest.mark.parametrize("name", ["pix2pix", "spade", "cyclegan"])
def test_the_same_recipe_at_one_site_and_at_four(tmp_path, tiny_study_file_in, monkeypatch, name):
    monkeypatch.setattr(run, "_EXPORTED", 2)
    studies = []
    for sites in (1, 4):
        folder = tmp_path / str(sites)
        folder.mkdir()
        path = tiny_study_file_in(
            folder,
            patch={"size": [8, 8], "per_subject": 2},
            networks={"depth": 1},
            recipe={"name": name},
            training={"protocol": "pooled", "critic_steps": 1, "rounds": 2},
            federation={
                "quorum": 1,
                "sites": [{"name": f"site-{number}", "subjects": 4} for number in range(sites)],
            },
        )
        outcome = simulate(path, out=folder / "run", virtual=sites, evaluate=False)
        release = read_release(outcome.folder / "release")
        assert len(release.sites) == sites
        assert release.spent.unit.value == "subject"
        pairs = draw_pairs(release, n=2, seed=0, device="cpu")
        assert pairs.shape == (2, 2, 8, 8)
        assert bool((pairs[:, 1].abs() == 1).all())
        assert len(list((outcome.folder / "synthetic").rglob("labelsTr/*.nii.gz"))) == 2
        studies.append(read_study(path).model_dump(exclude={"federation": {"sites"}}))
    assert studies[0] == studies[1]
