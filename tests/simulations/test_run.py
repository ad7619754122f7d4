"""`willis simulate` from end to end, interrupted at every stage, and with sites that do not play along."""

import io
import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from willis.client import training
from willis.client.store import open_store
from willis.shared.errors import QuorumMissed, StateError, StudyError
from willis.shared.metrics.sheet import read_scores
from willis.shared.release import read_release
from willis.shared.study import read_study
from willis.shared.update import digest
from willis.simulations import progress, run
from willis.simulations.progress import Show
from willis.simulations.run import simulate
from willis.simulations.summary import as_table, as_values

LEFT = {
    *("study.toml", "study.sha256", "training.csv", "held_out.csv", "sites", "server", "release"),
    *("synthetic", "scores.json", "metrics.jsonl", "report.html", "tensorboard"),
}


class Plug(BaseException):
    """Pulled: nobody may catch it."""


class PullsThePlug(Show):
    """Shows nothing, and stops the run where a task of this title has got so far."""

    def __init__(self, title: str, done: int) -> None:
        super().__init__(quiet=True)
        self._title, self._done = title, done

    @contextmanager
    def task(self, title: str):
        def advance(done: int, of: int) -> None:
            if title.startswith(self._title) and done >= self._done:
                raise Plug(title)

        yield advance


@pytest.fixture(autouse=True)
def _few_files(monkeypatch):
    monkeypatch.setattr(run, "_EXPORTED", 3)


@pytest.fixture
def start(tmp_path, tiny_study_file, phantom_cohort) -> Callable[..., run.Outcome]:
    """Simulate the tiny study, with changes, on eight phantom subjects a site."""
    table = phantom_cohort(subjects=8)

    def simulate_tiny(folder: str = "run", *, changes: dict | None = None, **options) -> run.Outcome:
        options = {"evaluate": False, "cohort": table} | options
        return simulate(tiny_study_file(**(changes or {})), out=tmp_path / folder, **options)

    return simulate_tiny


def rounds(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_simulation_leaves_everything_that_a_run_has(start):
    outcome = start(evaluate=True)
    folder = outcome.folder
    assert {path.name for path in folder.iterdir()} == LEFT
    study = read_study(folder / "study.toml")
    assert (folder / "study.sha256").read_text().strip() == study.digest()
    for site in ("site-a", "site-b"):
        assert {path.name for path in (folder / "sites" / site).iterdir()} == {
            *("cohort.csv", "ledger.sqlite", "patches", "runs", "site.toml")
        }
        assert open_store(folder / "sites" / site / "patches").n_subjects == 6, "2 of 8 are held out"
    assert [row["round"] for row in rounds(folder)] == [1, 2, 3]
    assert len(list((folder / "synthetic").rglob("labelsTr/*.nii.gz"))) == 3
    assert outcome.scores is not None
    assert [row.name for row in outcome.scores.rows] == ["real", "synthetic", "prior"]
    assert {row.n_subjects for row in outcome.scores.rows} == {4}
    spent = read_release(folder / "release").spent
    assert 0.99 * 8 < spent.epsilon <= 8 * (1 + 1e-6)
    assert spent.sentence().split()[1] in (folder / "report.html").read_text()
    assert spent.sentence() in as_table(outcome)
    values = json.loads(json.dumps(as_values(outcome)))
    assert values["privacy"]["epsilon"] == spent.epsilon
    assert values["scores"]["covered_by_epsilon"] is False


def test_held_out_subjects_are_in_no_sites_table(start):
    folder = start().folder
    held_out = {line.split(",")[0] for line in (folder / "held_out.csv").read_text().splitlines()[1:]}
    trained = set()
    for table in (folder / "sites").glob("*/cohort.csv"):
        trained |= {line.split(",")[0] for line in table.read_text().splitlines()[1:]}
    assert len(held_out) == 4
    assert len(trained) == 12
    assert not held_out & trained


def test_real_and_virtual_sites_train_together(tmp_path, tiny_study_file, phantom_cohort):
    """Site a's subjects come from a table; site b's are made up, as many as it declares and the held-out."""
    study = tiny_study_file(
        federation={"sites": [{"name": "site-a", "subjects": 6}, {"name": "site-b", "subjects": 4}]},
        training={"rounds": 1},
    )
    table = phantom_cohort(subjects=8, sites=("site-a",))
    outcome = simulate(study, out=tmp_path / "run", cohort=table, virtual=1, evaluate=False)
    assert open_store(tmp_path / "run" / "sites" / "site-b" / "patches").n_subjects == 4
    assert set(outcome.release.sites) == {"site-a", "site-b"}


@pytest.mark.parametrize(
    ("title", "done"),
    [
        ("cutting patches at site-b", 3),
        ("rounds", 0),
        ("rounds", 1),
        ("rounds", 3),
        ("training and testing", 1),
    ],
)
@pytest.mark.usefixtures("keys_by_round")
def test_resume_after_a_stop_at_any_stage_equals_no_interruption(start, tmp_path, title, done):
    straight = start("straight")
    with pytest.raises(Plug):
        start(evaluate=title.startswith("training"), show=PullsThePlug(title, done))
    resumed = start(resume=True)
    assert digest(resumed.release.arrays) == digest(straight.release.arrays)
    assert resumed.release.spent == straight.release.spent
    assert [row["round"] for row in rounds(tmp_path / "run")] == [1, 2, 3]


@pytest.mark.parametrize(
    "stage",
    [
        "server.rounds._ask_all",
        *(f"simulations.run.{n}" for n in ("publish", "export_pairs", "write_report")),
    ],
)
@pytest.mark.usefixtures("keys_by_round")
def test_resume_before_the_first_round_or_after_the_last_equals_no_interruption(start, monkeypatch, stage):
    straight = start("straight")

    def pulled(*args, **rest):
        raise Plug(stage)

    with monkeypatch.context() as patch:
        patch.setattr(f"willis.{stage}", pulled)
        with pytest.raises(Plug):
            start()
    resumed = start(resume=True)
    assert digest(resumed.release.arrays) == digest(straight.release.arrays)
    assert (resumed.folder / "report.html").stat().st_size > 0
    assert len(list((resumed.folder / "synthetic").rglob("labelsTr/*.nii.gz"))) == 3


def test_a_finished_run_resumes_without_training_anything(start, monkeypatch):
    first = start(evaluate=True)

    def nobody(*args, **rest):
        raise AssertionError("trained again")

    monkeypatch.setattr(run, "run_rounds", nobody)
    monkeypatch.setattr(run, "judge", nobody)
    again = start(evaluate=True, resume=True)
    assert again.release.digest == first.release.digest
    assert again.scores == first.scores == read_scores(first.folder / "scores.json")


def test_a_run_that_was_killed_while_it_began_begins_anew(start, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".study.part").write_text("name = ")
    assert start(changes={"training": {"rounds": 1}}).release.sheet.rounds == 1


def test_another_study_a_used_folder_and_a_strange_folder_are_refused(start, tmp_path):
    one_round = {"training": {"rounds": 1}}
    start(changes=one_round)
    with pytest.raises(StateError, match="already holds a run; --resume continues it"):
        start(changes=one_round)
    with pytest.raises(StateError, match="holds a run of another study"):
        start(changes={"training": {"rounds": 2}}, resume=True)
    (tmp_path / "desk").mkdir()
    (tmp_path / "desk" / "thesis.txt").write_text("mine")
    for resume in (False, True):
        with pytest.raises(StateError, match="is not empty and holds no run"):
            start("desk", changes=one_round, resume=resume)


THREE = [{"name": f"site-{letter}", "subjects": 6} for letter in "abc"]


@pytest.fixture
def three(tmp_path, tiny_study_file, phantom_cohort):
    """Simulate three sites with a quorum of two; site c has two subjects."""
    table = phantom_cohort(subjects=8, sites=("site-a", "site-b", "site-c"))
    lines = table.read_text().splitlines()
    kept = [line for line in lines if ",site-c," not in line] + [
        line for line in lines if ",site-c," in line
    ][:2]
    table.write_text("\n".join(kept) + "\n")

    def simulate_three(**federation):
        study = tiny_study_file(federation={"sites": THREE, "quorum": 2} | federation)
        return simulate(study, out=tmp_path / "run", cohort=table, evaluate=False)

    return simulate_three


def test_a_site_with_too_few_subjects_is_refused_and_the_run_goes_on(three):
    outcome = three(minimum_subjects=3)
    for row in rounds(outcome.folder):
        assert row["answered"] == ["site-a", "site-b"]
        assert row["refused"] == {"site-c": "site-refuses"}
    assert set(outcome.release.sites) == {"site-a", "site-b"}
    assert not (outcome.folder / "sites" / "site-c" / "ledger.sqlite").exists(), "it paid nothing"


def test_below_quorum_nothing_is_merged_and_the_run_says_who_is_missing(three):
    with pytest.raises(QuorumMissed, match=r"site-c \(site-refuses\)"):
        three(minimum_subjects=3, quorum=3)


def test_a_poisoned_update_is_rejected_recorded_and_the_run_goes_on(three, monkeypatch):
    honest = training.train_round

    def poisoned(order, settings):
        answer = honest(order, settings)
        if settings.name != "site-b":
            return answer
        return replace(answer, arrays={n: np.full_like(v, np.nan) for n, v in answer.arrays.items()})

    monkeypatch.setattr(training, "train_round", poisoned)
    outcome = three()
    for row in rounds(outcome.folder):
        assert row["answered"] == ["site-a", "site-c"]
        assert row["refused"] == {"site-b": "update-not-finite"}
    assert all(np.isfinite(value).all() for value in outcome.release.arrays.values())
    assert outcome.release.sites["site-b"].spent.epsilon > 7.9, "its answers left, so they count"


def test_a_site_of_an_unknown_name_in_the_cohort_is_refused(start, phantom_cohort):
    table = phantom_cohort(subjects=2, sites=("site-a", "site-b", "site-x"))
    with pytest.raises(
        StudyError, match="sites that the study does not name: site-x; it names site-a, site-b"
    ):
        start(cohort=table)
    # Nothing was written, so the mended table starts the same run without --resume.
    lines = [line for line in table.read_text().splitlines() if ",site-x," not in line]
    table.write_text("\n".join(lines) + "\n")
    assert start(cohort=table).folder.name


@pytest.mark.parametrize("virtual", [0, 2])
def test_a_wrong_number_of_virtual_sites_is_refused(start, phantom_cohort, virtual):
    table = phantom_cohort(subjects=2, sites=("site-a",))
    with pytest.raises(StudyError, match=f"1 are left for virtual ones, got --virtual {virtual}"):
        start(cohort=table, virtual=virtual)


def test_pictures_in_the_table_are_those_that_train(start):
    """The stores hold what the files show: a site's patches lie within its pictures' own range."""
    folder = start(changes={"training": {"rounds": 1}}).folder
    store = open_store(folder / "sites" / "site-a" / "patches")
    patches = store.sample(8, np.random.default_rng(0)).numpy()
    assert set(np.unique(patches[:, -1])) <= {-1.0, 1.0}
    first = (folder / "sites" / "site-a" / "cohort.csv").read_text().splitlines()[1].split(",")
    assert np.asarray(Image.open(first[2])).std() > 0
    assert patches[:, 0].std() > 0


@pytest.mark.parametrize("terminal", [True, False])
def test_progress_is_a_bar_on_a_terminal_and_plain_lines_elsewhere(monkeypatch, terminal):
    monkeypatch.setattr(progress, "_EVERY_S", 0.0)
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    stream = io.StringIO()
    stream.isatty = lambda: terminal
    with Show(stream).task("cutting") as advance:
        advance(1, 4)
        advance(4, 4)
    assert "4/4" in stream.getvalue() if terminal else "cutting: 1 of 4\ncutting: done" in stream.getvalue()
