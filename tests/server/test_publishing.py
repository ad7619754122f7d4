"""A release says all that was spent, or there is none."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from willis.server.checkpoint import Checkpoint, RoundRecord, save
from willis.server.cli import report
from willis.server.ledger import SpendingBook
from willis.server.publishing import publish
from willis.shared.errors import ReleaseError, StateError, StudyError
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent
from willis.shared.release import read_release
from willis.shared.study import Study
from willis.shared.update import Arrays

STUDY_TOML = """name = "tiny-study"
patch = { size = [16, 16], per_subject = 4 }
prior = { family = "vessels" }
networks = { latent = 4, generator_width = 8, critic_width = 4, depth = 2 }
privacy = { unit = "subject", epsilon = 8.0, delta = 1e-4, sampling_rate = 0.5 }
training = { rounds = 3, critic_steps = 5, patches_per_bag = 2 }
federation = { quorum = 1, sites = [{ name = "north", subjects = 20 }, { name = "south", subjects = 20 }] }
"""
STUDY = Study.model_validate(tomllib.loads(STUDY_TOML))


def spent_of(epsilon: float) -> PrivacySpent:
    fields = {"epsilon": epsilon, "delta": 1e-4, "unit": "subject", "accountant": "PLD"}
    return PrivacySpent.model_validate(fields | {"relation": "add-or-remove-one"})


def weights(offset: float) -> dict[str, np.ndarray]:
    """The study's first weights, moved by ``offset``."""
    return {name: value + np.float32(offset) for name, value in arrays_of(build_generator(STUDY)).items()}


def merged(run: Path, rounds: int, *, released: Arrays | None = None) -> None:
    """A run as the coordinator leaves it: north and south pay 0.5 and 0.25 in each round."""
    book = SpendingBook(run / "server" / "spending.jsonl")
    history = []
    for number in range(1, rounds + 1):
        spent = {"north": spent_of(0.5 * number), "south": spent_of(0.25 * number)}
        for site, figure in spent.items():
            book.record(number, site, spent=figure, ledger_head=f"{site[0]}{number:03d}".replace("n", "a"))
        fields = {"round": number, "merged": True, "answered": ("north", "south"), "spent": spent}
        zero = {"refused": {}, "strangers": {}, "norms": {"north": 1.0, "south": 1.0}, "seconds": 1.0}
        history.append(RoundRecord.model_validate(fields | zero))
    state = Checkpoint(
        study_digest=STUDY.digest(),
        run="tiny-study-00ff",
        round=rounds,
        model=weights(7.0),
        released=weights(0.5) if released is None else released,
        history=tuple(history),
    )
    save(run / "server", state)


def test_the_average_is_published_with_all_that_was_spent(tmp_path):
    merged(tmp_path, 2)
    publish(tmp_path, STUDY)
    release = read_release(tmp_path / "release")
    assert all(np.array_equal(release.arrays[name], value) for name, value in weights(0.5).items())
    assert release.study == STUDY
    assert (release.sheet.run, release.sheet.rounds) == ("tiny-study-00ff", 2)
    assert release.spent == spent_of(1.0)
    assert {site: found.spent for site, found in release.sites.items()} == {
        "north": spent_of(1.0),
        "south": spent_of(0.5),
    }
    assert release.sites["north"].ledger_head == "a002"


def test_what_was_paid_for_a_round_that_missed_its_quorum_counts(tmp_path):
    merged(tmp_path, 2)
    book = SpendingBook(tmp_path / "server" / "spending.jsonl")
    book.record(3, "north", spent=spent_of(1.75), ledger_head="a003")
    assert publish(tmp_path, STUDY).spent == spent_of(1.75)


def test_no_release_before_a_round_was_merged(tmp_path):
    with pytest.raises(StateError, match="nothing to resume"):
        publish(tmp_path, STUDY)
    merged(tmp_path, 0)
    with pytest.raises(StateError, match="no round was ever merged"):
        publish(tmp_path, STUDY)
    assert not (tmp_path / "release").exists()


def test_another_study_is_refused(tmp_path):
    merged(tmp_path, 1)
    with pytest.raises(StateError, match="asked for was"):
        publish(tmp_path, STUDY.model_copy(update={"seed": 1}))


def test_a_book_that_lacks_a_payment_is_refused(tmp_path):
    merged(tmp_path, 2)
    path = tmp_path / "server" / "spending.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:3]))
    with pytest.raises(StateError, match="lacks what south told in round 2"):
        publish(tmp_path, STUDY)
    path.unlink()
    with pytest.raises(StateError, match="lacks what north told in round 1"):
        publish(tmp_path, STUDY)
    assert not (tmp_path / "release").exists()


def test_a_site_that_counted_without_a_word_about_its_spending_is_refused(tmp_path):
    merged(tmp_path, 1)
    save(tmp_path / "server", _silent(("north",)))
    (tmp_path / "server" / "spending.jsonl").write_text("")
    with pytest.raises(StateError, match="lacks what north told in round 1"):
        publish(tmp_path, STUDY)
    save(tmp_path / "server", _silent(()))
    with pytest.raises(StateError, match="holds no payment of any site"):
        publish(tmp_path, STUDY)


def _silent(answered: tuple[str, ...]) -> Checkpoint:
    fields = {"round": 1, "merged": True, "answered": answered, "refused": {}, "strangers": {}}
    record = RoundRecord.model_validate(fields | {"norms": {}, "spent": {}, "seconds": 0.0})
    arrays = weights(0.0)
    return Checkpoint(
        study_digest=STUDY.digest(), run="tiny-1", round=1, model=arrays, released=arrays, history=(record,)
    )


def test_publishing_twice_gives_the_same_release(tmp_path):
    merged(tmp_path, 2)
    first = publish(tmp_path, STUDY)
    assert publish(tmp_path, STUDY).digest == first.digest


def test_a_release_of_an_earlier_round_is_not_replaced(tmp_path):
    merged(tmp_path, 1)
    first = publish(tmp_path, STUDY)
    (tmp_path / "server" / "spending.jsonl").unlink()
    merged(tmp_path, 2)
    with pytest.raises(StateError, match="round 1; to be published is tiny-study-00ff, round 2"):
        publish(tmp_path, STUDY)
    assert read_release(tmp_path / "release").digest == first.digest


def test_a_damaged_release_is_not_taken_for_the_same(tmp_path):
    merged(tmp_path, 1)
    publish(tmp_path, STUDY)
    path = tmp_path / "release" / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"rounds": 2}))
    with pytest.raises(ReleaseError, match=r"release\.json"):
        publish(tmp_path, STUDY)


def test_weights_that_are_not_the_study_s_are_not_published(tmp_path):
    merged(tmp_path, 1, released=weights(0.5) | {"more": np.zeros(1, np.float32)})
    with pytest.raises(ReleaseError, match="more: unknown"):
        publish(tmp_path, STUDY)
    assert not (tmp_path / "release").exists()


def test_the_command_reports_a_published_run(tmp_path):
    merged(tmp_path, 2)
    (tmp_path / "study.toml").write_text(STUDY_TOML)
    release, out = publish(tmp_path, STUDY), tmp_path / "report.html"
    done = CliRunner().invoke(report, [str(tmp_path), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    answer = json.loads(done.output)
    assert (answer["path"], answer["rounds"], answer["scored"]) == (str(out), 0, False)
    assert answer["release"] == release.digest
    assert answer["privacy"]["north"] == spent_of(1.0).model_dump(mode="json")
    assert out.read_text().startswith("<!doctype html>")
    done = CliRunner().invoke(report, [str(tmp_path), "--out", str(out)])
    assert f"north: {spent_of(1.0).sentence()}" in done.output


def test_the_command_passes_errors_on_and_has_an_example(tmp_path):
    done = CliRunner().invoke(report, [str(tmp_path), "--out", str(tmp_path / "report.html")])
    assert isinstance(done.exception, StudyError)
    assert "Example: willis report runs/demo" in CliRunner().invoke(report, ["--help"]).output
