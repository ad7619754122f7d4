"""A run that was interrupted and resumed ends as if it never had been."""

import json

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from willis.server import checkpoint as disk
from willis.server.rounds import run_rounds
from willis.shared.errors import QuorumMissed, StateError
from willis.shared.known_arrays import completed
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.study import Study
from willis.shared.update import RoundOrder, SiteAnswer, digest
from willis.simulations.local_grid import LocalGrid

INITIAL = {"w": np.array([1.0, -1.0, 0.3], np.float32), "n": np.array(3)}
SPENT = PrivacySpent(
    epsilon=1.0, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)
TARGETS = {"east": 2.0, "north": 0.7}


def a_study(*, rounds: int = 3) -> Study:
    return Study.model_validate(
        {
            "name": "tiny",
            "patch": {"size": (16, 16), "per_subject": 16},
            "prior": {"family": "organ"},
            "networks": {"depth": 3},
            "privacy": {"epsilon": 3.0, "delta": 1e-3, "unit": "subject", "sampling_rate": 0.5},
            "training": {"rounds": rounds, "critic_steps": 5, "ema": 0.5},
            "federation": {
                "sites": [{"name": name, "subjects": 20} for name in TARGETS],
                "quorum": 2,
                "deadline_s": 5.0,
            },
        }
    )


def a_grid(*, names=tuple(TARGETS), refuses_in: int | None = None) -> LocalGrid:
    """Sites that go half the way to their targets; the first may refuse in one round."""
    app, held = ClientApp(), {}

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        site = context.node_config["site"]
        return Message(RecordDict({"hello": ConfigRecord({"site": site})}), reply_to=message)

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site = str(context.node_config["site"])
        sent = {name: value.numpy() for name, value in message.content.array_records["generator"].items()}
        letter = message.content.config_records["order"]
        sent = held[site] = completed(sent, json.loads(str(letter["kept"])), held.get(site, {}))
        order = RoundOrder.read(str(letter["header"]), sent)
        if site == "east" and order.round == refuses_in:
            return Message(RecordDict({"wall": ConfigRecord({"refused": "budget"})}), reply_to=message)
        move = ((TARGETS[site] - sent["w"]) / 2).astype(np.float32)
        answer = SiteAnswer(
            arrays={"w": move},
            site=site,
            round=order.round,
            order_digest=order.digest(),
            spent=SPENT,
            ledger_head="",
        )
        content = {
            "update": ArrayRecord({"w": Array(move)}),
            "answer": ConfigRecord({"header": answer.header()}),
        }
        return Message(RecordDict(content), reply_to=message)

    return LocalGrid(app, [{"site": name} for name in names])


def run(grid, study, folder, *, resume=False, on_round=None) -> disk.Checkpoint:
    return run_rounds(
        grid, study, folder=folder, initial=INITIAL, resume=resume, on_round=on_round, patience_s=0.0
    )


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_a_run_that_missed_its_quorum_resumes_and_ends_as_if_it_had_not(tmp_path):
    straight = run(a_grid(), a_study(), tmp_path / "straight")
    with pytest.raises(QuorumMissed):
        run(a_grid(refuses_in=3), a_study(), tmp_path / "broken")
    resumed = run(a_grid(), a_study(), tmp_path / "broken", resume=True)
    assert digest(resumed.model) == digest(straight.model)
    assert [(row["round"], row["merged"]) for row in rows(tmp_path / "broken")] == [
        (1, True),
        (2, True),
        (3, False),
        (3, True),
    ]


@pytest.mark.parametrize("after", [1, 2])
def test_resume_equals_no_interruption(tmp_path, after):
    def pull_the_plug(record):
        if record.round == after:
            raise KeyboardInterrupt

    straight = run(a_grid(), a_study(rounds=4), tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(a_grid(), a_study(rounds=4), tmp_path / "broken", on_round=pull_the_plug)
    resumed = run(a_grid(), a_study(rounds=4), tmp_path / "broken", resume=True)
    assert digest(resumed.model) == digest(straight.model)
    assert digest(resumed.released) == digest(straight.released)
    assert [row["round"] for row in rows(tmp_path / "broken")] == [1, 2, 3, 4]
    assert [r.round for r in resumed.history] == [1, 2, 3, 4]
    events = EventAccumulator(str(tmp_path / "broken" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("epsilon/east")] == [1, 2, 3, 4]
    assert resumed.run != straight.run


def test_a_full_disk_stops_the_run_and_it_resumes(tmp_path, monkeypatch):
    straight = run(a_grid(), a_study(), tmp_path / "straight")
    written = disk.write_whole

    def full(path, data):
        if "000002" in path.name:
            raise StateError(f"cannot write {path}: No space left on device")
        written(path, data)

    monkeypatch.setattr(disk, "write_whole", full)
    with pytest.raises(StateError, match="No space left"):
        run(a_grid(), a_study(), tmp_path / "broken")
    monkeypatch.undo()
    resumed = run(a_grid(), a_study(), tmp_path / "broken", resume=True)
    assert digest(resumed.model) == digest(straight.model)
    assert [row["round"] for row in rows(tmp_path / "broken")] == [1, 2, 3]


def test_a_finished_run_resumes_to_itself_without_asking_anybody(tmp_path):
    state = run(a_grid(), a_study(), tmp_path)
    again = run(a_grid(names=()), a_study(), tmp_path, resume=True)
    assert digest(again.model) == digest(state.model)


def test_a_used_folder_is_refused(tmp_path):
    run(a_grid(), a_study(rounds=1), tmp_path)
    with pytest.raises(StateError, match="already holds a run"):
        run(a_grid(), a_study(rounds=1), tmp_path)


def test_resume_with_another_study_is_refused(tmp_path):
    run(a_grid(), a_study(rounds=1), tmp_path)
    with pytest.raises(StateError, match="asked for was"):
        run(a_grid(), a_study(rounds=2), tmp_path, resume=True)


def test_resume_of_nothing_is_refused(tmp_path):
    with pytest.raises(StateError, match="nothing to resume"):
        run(a_grid(), a_study(), tmp_path, resume=True)
