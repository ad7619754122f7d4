"""A run's rounds as MLflow shows them: sent from ``metrics.jsonl`` when asked, never by the round loop.

So a server that is down stops no study. MLflow is the extra ``willis[mlflow]``; nothing else imports it.
"""

import hashlib
import importlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from willis.server.checkpoint import RoundRecord, latest_round, load, read_metrics
from willis.server.tracking import scalars_of
from willis.shared.errors import StateError, Unreachable
from willis.shared.study import Study, read_study

_RUN, _SENT, _DIGEST = "willis.run", "willis.records_sent", "willis.records_digest"


@dataclass(frozen=True, kw_only=True)
class Sent:
    """What MLflow got.

    Attributes:
        run: The run's name, as in its release.
        mlflow_run: MLflow's own name of it.
        rounds: Records that were sent now.
    """

    run: str
    mlflow_run: str
    rounds: int


def send_to_mlflow(run: Path, *, uri: str, experiment: str) -> Sent:
    """Send the records that MLflow does not have yet; again and again while a run is on, if wanted.

    1) find this run there by its tag, or make it; 2) send every record not yet counted as sent, its numbers
    at the round as step; 3) count it as sent. A call that is cut goes on at the record where it was cut.
    Where the file no longer begins with what was sent (rounds done again from a checkpoint), all of it is
    sent anew.

    Args:
        run: The run's folder.
        uri: Where MLflow keeps its runs: ``sqlite:///FILE`` or a server's address.
        experiment: Its experiment; made where it lacks.

    Raises:
        StateError: No round ended yet, or the run's folder is damaged.
        Unreachable: MLflow is not installed, does not answer or refuses.
    """
    mlflow = _mlflow()
    study = read_study(run / "study.toml")
    if latest_round(run / "server") is None:
        raise StateError(f"{run} holds no run that has begun; start it first")
    name = load(run / "server", study_digest=study.digest()).run
    records = read_metrics(run / "metrics.jsonl")
    try:
        client = mlflow.tracking.MlflowClient(tracking_uri=uri)
        there = _found_or_made(client, experiment, name, study)
        sent = int(there.data.tags.get(_SENT, "0"))
        if _digest(records[:sent]) != there.data.tags.get(_DIGEST, _digest([])):
            sent = 0  # rounds were done again since: all of them are told anew
        _send(mlflow, client, there.info.run_id, records, sent=sent)
        if (run / "release").exists():
            client.set_terminated(there.info.run_id)
    except mlflow.exceptions.MlflowException as fault:
        raise Unreachable(f"MLflow at {uri} does not take the run: {fault}") from fault
    return Sent(run=name, mlflow_run=there.info.run_id, rounds=len(records) - sent)


def _mlflow() -> ModuleType:
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # it would tell its makers of every run
    try:
        importlib.import_module("mlflow.tracking")
        return importlib.import_module("mlflow")
    except ImportError as fault:
        raise Unreachable(f"MLflow is not installed ({fault}); pip install 'willis[mlflow]'") from fault


def _found_or_made(client: Any, experiment: str, name: str, study: Study) -> Any:
    kept = client.get_experiment_by_name(experiment)
    place = kept.experiment_id if kept is not None else client.create_experiment(experiment)
    found = client.search_runs([place], filter_string=f"tags.`{_RUN}` = '{name}'")
    if found:
        return found[0]
    plan = study.privacy
    made = client.create_run(place, run_name=name, tags={_RUN: name, "willis.study_digest": study.digest()})
    for key, value in {
        "study": study.name,
        "recipe": study.recipe.name,
        "rounds": study.training.rounds,
        "privacy.epsilon": plan.epsilon,
        "privacy.delta": plan.delta,
        "privacy.unit": plan.unit.value,
        "privacy.relation": plan.relation.value,
    }.items():
        client.log_param(made.info.run_id, key, value)
    return client.get_run(made.info.run_id)


def _send(
    mlflow: ModuleType, client: Any, mlflow_run: str, records: Sequence[RoundRecord], *, sent: int
) -> None:
    for count, record in enumerate(records[sent:], start=sent + 1):
        at = int(1000 * (record.ended or 0.0))
        numbers = scalars_of(record)
        metrics = [mlflow.entities.Metric(one.tag, one.value, at, record.round) for one in numbers]
        client.log_batch(mlflow_run, metrics=metrics)
        # A call cut between these two finds a digest that is not of the count, and sends all anew.
        client.set_tag(mlflow_run, _DIGEST, _digest(records[:count]))
        client.set_tag(mlflow_run, _SENT, str(count))


def _digest(records: Sequence[RoundRecord]) -> str:
    text = "\n".join(one.model_dump_json() for one in records)
    return hashlib.sha256(text.encode()).hexdigest()
