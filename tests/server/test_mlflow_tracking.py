"""A run's rounds sent to MLflow: each once, by what MLflow offers; nothing imports MLflow unasked."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from harness.made_report import make_run, record_of

from willis.server.checkpoint import Checkpoint, add_metrics, save
from willis.server.mlflow_tracking import send_to_mlflow
from willis.shared.errors import StateError, Unreachable
from willis.shared.study import read_study


class MlflowError(Exception):
    pass


class Store:
    """What a fake MLflow keeps, and after how many writes it stops answering."""

    def __init__(self) -> None:
        self.runs: dict[str, SimpleNamespace] = {}
        self.experiments: dict[str, str] = {}
        self.breaks_after = 10**9

    def written(self) -> None:
        self.breaks_after -= 1
        if self.breaks_after < 0:
            raise MlflowError("gone")


class FakeClient:
    """The calls of ``MlflowClient`` that Willis makes, with its signatures."""

    store: Store

    def __init__(self, tracking_uri: str) -> None:
        assert tracking_uri == "sqlite:///x.db"

    def get_experiment_by_name(self, name: str):
        kept = self.store.experiments.get(name)
        return None if kept is None else SimpleNamespace(experiment_id=kept)

    def create_experiment(self, name: str) -> str:
        return self.store.experiments.setdefault(name, f"e{len(self.store.experiments)}")

    def search_runs(self, experiment_ids: list[str], filter_string: str):
        key, _, value = filter_string.removeprefix("tags.").partition(" = ")
        wanted = (key.strip("`"), value.strip("'"))
        runs = [run for run in self.store.runs.values() if run.experiment in experiment_ids]
        return [run for run in runs if wanted in run.data.tags.items()]

    def create_run(self, experiment_id: str, *, run_name: str, tags: dict[str, str]):
        data = SimpleNamespace(tags=dict(tags), params={}, metrics=[])
        info = SimpleNamespace(run_id=f"r{len(self.store.runs)}", status="RUNNING", name=run_name)
        run = SimpleNamespace(experiment=experiment_id, data=data, info=info)
        return self.store.runs.setdefault(info.run_id, run)

    def get_run(self, run_id: str):
        return self.store.runs[run_id]

    def log_param(self, run_id: str, key: str, value: object) -> None:
        self.store.runs[run_id].data.params[key] = value

    def log_batch(self, run_id: str, *, metrics) -> None:
        self.store.written()
        self.store.runs[run_id].data.metrics += metrics

    def set_tag(self, run_id: str, key: str, value: str) -> None:
        self.store.runs[run_id].data.tags[key] = value

    def set_terminated(self, run_id: str) -> None:
        self.store.runs[run_id].info.status = "FINISHED"


def _metric(key: str, value: float, timestamp: int, step: int) -> SimpleNamespace:
    return SimpleNamespace(key=key, value=value, at=timestamp, step=step)


@pytest.fixture
def store(monkeypatch) -> Store:
    mlflow, tracking = ModuleType("mlflow"), ModuleType("mlflow.tracking")
    kept = Store()
    tracking.__dict__["MlflowClient"] = type("Client", (FakeClient,), {"store": kept})
    vars(mlflow).update({"tracking": tracking, "entities": SimpleNamespace(Metric=_metric)})
    mlflow.__dict__["exceptions"] = SimpleNamespace(MlflowException=MlflowError)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", tracking)
    return kept


def begun(run: Path, *, rounds: int, released: bool = False) -> Path:
    make_run(run, rounds=rounds, released=released, scored=False)
    arrays = {"w": np.zeros(1, np.float32)}
    digest = read_study(run / "study.toml").digest()
    state = Checkpoint(study_digest=digest, run="tiny-study-00ff", round=0, model=arrays, released=arrays)
    save(run / "server", state)
    return run


def send(run: Path):
    return send_to_mlflow(run, uri="sqlite:///x.db", experiment="willis")


def steps_of(store: Store, tag: str) -> list[tuple[int, float]]:
    (run,) = store.runs.values()
    return [(one.step, one.value) for one in run.data.metrics if one.key == tag]


def test_every_round_is_sent_once_while_the_run_goes_on(tmp_path, store):
    run = begun(tmp_path / "run", rounds=2)
    assert (send(run).rounds, send(run).rounds) == (2, 0)
    add_metrics(run / "metrics.jsonl", record_of(3, ended=1e9))
    last = send(run)
    assert (last.run, last.rounds) == ("tiny-study-00ff", 1)
    assert steps_of(store, "epsilon/north") == [(1, 1.11), (2, 2.22), (3, 3.33)]
    assert store.runs["r0"].data.params["privacy.unit"] == "subject"
    assert store.runs["r0"].info.status == "RUNNING"
    assert store.runs["r0"].data.metrics[-1].at == 1_000_000_000_000, "milliseconds"


def test_a_released_run_is_ended(tmp_path, store):
    send(begun(tmp_path / "run", rounds=3, released=True))
    assert store.runs["r0"].info.status == "FINISHED"


def test_a_call_that_is_cut_goes_on_where_it_was_cut(tmp_path, store):
    run = begun(tmp_path / "run", rounds=3)
    store.breaks_after = 2
    with pytest.raises(Unreachable, match=r"MLflow at sqlite:///x\.db does not take the run: gone"):
        send(run)
    store.breaks_after = 100
    assert send(run).rounds == 1
    assert [step for step, _ in steps_of(store, "round/seconds")] == [1, 2, 3]


def test_rounds_that_were_done_again_are_sent_anew(tmp_path, store):
    run = begun(tmp_path / "run", rounds=3)
    send(run)
    file = run / "metrics.jsonl"
    lines = file.read_text().splitlines(keepends=True)
    file.write_text("".join(lines[:2]))  # a resume cut the third round off ...
    assert send(run).rounds == 2
    add_metrics(file, record_of(3, ended=2e9))  # ... and did it again
    assert send(run).rounds == 1
    assert [step for step, _ in steps_of(store, "round/seconds")] == [1, 2, 3, 1, 2, 3]


@pytest.mark.usefixtures("store")
def test_a_run_that_has_not_begun_is_refused(tmp_path):
    with pytest.raises(StateError, match="holds no run that has begun"):
        send(make_run(tmp_path / "run", rounds=0, released=False, scored=False))


def test_without_mlflow_it_is_said_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(Unreachable, match=r"pip install 'willis\[mlflow\]'"):
        send(tmp_path)


def test_nothing_imports_mlflow_unasked():
    modules = "willis.server.cli, willis.server.mlflow_tracking, willis.server.rounds"
    script = f"import sys, {modules}; print('mlflow' in sys.modules)"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "False"


@pytest.mark.slow
def test_the_real_mlflow_takes_a_run(tmp_path):
    mlflow = pytest.importorskip("mlflow", reason="MLflow is not installed (the extra willis[mlflow])")
    run, uri = begun(tmp_path / "run", rounds=3), f"sqlite:///{tmp_path / 'mlflow.db'}"
    for expected in (3, 0):
        assert send_to_mlflow(run, uri=uri, experiment="willis").rounds == expected
    client = mlflow.tracking.MlflowClient(tracking_uri=uri)
    (found,) = client.search_runs([client.get_experiment_by_name("willis").experiment_id])
    history = client.get_metric_history(found.info.run_id, "epsilon/south")
    assert [(one.step, one.value) for one in history] == [(1, 0.5), (2, 1.0), (3, 1.5)]
