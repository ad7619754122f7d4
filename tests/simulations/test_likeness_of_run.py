"""A simulation's likeness to held-out patients: between floor and ceiling, or left out where too few."""

from willis.client.store import open_store
from willis.shared.likeness.rows import read_likeness
from willis.simulations.run import simulate


def run(tmp_path, tiny_study_file, phantom_cohort, *, per_subject: int):
    study = tiny_study_file(
        patch={"per_subject": per_subject}, use={"synthetic_pairs": 40}, training={"rounds": 1}
    )
    return simulate(study, out=tmp_path / "run", cohort=phantom_cohort(subjects=8))


def test_likeness_is_left_beside_ceiling_and_floor(tmp_path, tiny_study_file, phantom_cohort):
    folder = run(tmp_path, tiny_study_file, phantom_cohort, per_subject=8).folder
    rows = read_likeness(folder / "likeness.json")
    assert {figure.n for figure in rows.synthetic.figures} == {32}, "4 held-out subjects, 8 patches each"
    for synthetic, prior in rows.pairs():
        assert synthetic.real_against_real == prior.real_against_real, (
            f"{synthetic.name}: one ceiling for both"
        )
    assert rows.synthetic.figure("fd[morpho13]").value != rows.prior.figure("fd[morpho13]").value
    assert rows.synthetic.covered_by_epsilon is False
    assert "How alike it is" in (folder / "report.html").read_text()
    assert open_store(folder / "sites" / "site-a" / "patches").n_subjects == 6, (
        "held-out subjects are in no store"
    )


def test_too_few_patches_leave_no_figure(tmp_path, tiny_study_file, phantom_cohort):
    folder = run(tmp_path, tiny_study_file, phantom_cohort, per_subject=4).folder
    assert not (folder / "likeness.json").exists()
    assert "No figures of likeness" in (folder / "report.html").read_text()
