"""The same two apps through either engine: in process, and through Flower and Ray."""

import json
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Context, RecordDict, UserConfig

from willis.client import app as door
from willis.client.site import SiteSettings
from willis.server import app as coordinator
from willis.server.checkpoint import Checkpoint, load
from willis.shared.errors import QuorumMissed, SiteRefused, StateError, StudyError, Unreachable, WillisError
from willis.shared.networks.start import initial_generator
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.study import read_study
from willis.shared.update import RoundOrder, SiteAnswer, floating
from willis.simulations import ray_engine
from willis.simulations.local_grid import LocalGrid
from willis.simulations.ray_engine import run_with_ray

PATIENT = "SURNAME_GIVEN_19470512"


def test_without_ray_the_ray_engine_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match=r'pip install "willis\[ray\]"'):
        run_with_ray(tmp_path / "study.toml", tmp_path, sites=tmp_path)


STUDY = """
name = "tiny"
[patch]
size = [16, 16]
per_subject = 16
[prior]
family = "organ"
[networks]
depth = 3
latent = 4
generator_width = 2
critic_width = 2
[privacy]
epsilon = 3.0
delta = 1e-3
unit = "subject"
sampling_rate = 0.5
[training]
rounds = 2
critic_steps = 5
[federation]
quorum = 2
deadline_s = 120
sites = [{ name = "north", subjects = 9 }, { name = "south", subjects = 9 }]
"""


SPENT = PrivacySpent(
    epsilon=1.0, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)


@pytest.fixture
def trial(tmp_path: Path) -> Path:
    """A folder with study.toml and run/sites/NAME/site.toml."""
    (tmp_path / "study.toml").write_text(STUDY)
    for name in ("north", "south"):
        folder = tmp_path / "run" / "sites" / name
        folder.mkdir(parents=True)
        (folder / "site.toml").write_text(
            f'name = "{name}"\ncohort = "cohort.csv"\nstate = "{PATIENT}"\nepsilon_cap = 3.0\ndelta = 1e-3\n'
        )
    return tmp_path


def run_in_process(trial: Path, **more: bool | str) -> None:
    config: UserConfig = {"study": str(trial / "study.toml"), "run": str(trial / "run"), **more}
    nodes: list[UserConfig] = [
        {"site-settings": str(path)} for path in sorted((trial / "run" / "sites").glob("*/site.toml"))
    ]
    grid = LocalGrid(door.app, nodes, run_config=config)
    coordinator.app(grid, Context(1, 1, {}, RecordDict(), config))


def a_trainer(order: RoundOrder, settings: SiteSettings) -> SiteAnswer:
    move = {"north": 0.01, "south": 0.03}[settings.name]
    arrays = {name: np.full_like(value, move) for name, value in floating(order.arrays).items()}
    digest = order.digest()
    return SiteAnswer(
        arrays=arrays,
        site=settings.name,
        round=order.round,
        order_digest=digest,
        spent=SPENT,
        ledger_head="",
    )


def test_the_apps_run_in_process(trial, monkeypatch):
    monkeypatch.setattr(door.training, "train_round", a_trainer)
    run_in_process(trial)
    study = read_study(trial / "study.toml")
    state = load(trial / "run" / "server", study_digest=study.digest())
    start = initial_generator(study).state_dict()
    assert state.round == 2
    for name, value in start.items():  # two rounds of (0.01 + 0.03) / 2
        np.testing.assert_allclose(state.model[name], value.numpy() + 0.04, atol=1e-6)
    assert not (trial / "run" / "server" / "failure.json").exists()
    run_in_process(trial, resume=True)
    with pytest.raises(StateError, match="already holds a run"):
        run_in_process(trial)


def test_a_failure_is_kept_and_comes_back_as_what_it_was(trial, monkeypatch):
    def refuse(order: RoundOrder, settings: SiteSettings) -> SiteAnswer:
        raise SiteRefused(f"too few subjects without {PATIENT}")

    monkeypatch.setattr(door.training, "train_round", refuse)
    with pytest.raises(QuorumMissed):
        run_in_process(trial)
    told = json.loads((trial / "run" / "server" / "failure.json").read_text())
    assert told["code"] == "quorum"
    assert PATIENT not in told["message"]
    with pytest.raises(QuorumMissed, match=r"site-refuses.*log: ray\.log"):
        ray_engine._result(trial / "run", read_study(trial / "study.toml"), Path("ray.log"))
    monkeypatch.setattr(door.training, "train_round", a_trainer)
    run_in_process(trial, resume=True)
    ended = ray_engine._result(trial / "run", read_study(trial / "study.toml"), Path("ray.log"))
    assert ended.round == 2


def test_a_coordinator_without_configuration_says_what_is_missing():
    grid = LocalGrid(door.app, [])
    with pytest.raises(StudyError, match="no study and no run"):
        coordinator.app(grid, Context(1, 1, {}, RecordDict(), {}))


LIVING = """
import http.server, os, socketserver, subprocess, sys
port = int(sys.argv[sys.argv.index("--port") + 1])
subprocess.Popen(["sleep", "60"], start_new_session=True)  # as Flower gives SuperExec its own session
class Health(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200 if self.path == "/health" else 404)
        self.end_headers()
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", port), Health).serve_forever()
"""


def fake_flower(folder: Path, monkeypatch, *, superlink: str, flwr: str) -> None:
    """Put scripts in the place of Flower's commands."""
    for name, body in (("flower-superlink", superlink), ("flwr", flwr)):
        path = folder / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!{sys.executable}\n{body}")
        path.chmod(0o755)
    monkeypatch.setattr(ray_engine, "script", lambda name: str(folder / "bin" / name))
    monkeypatch.setattr(ray_engine.importlib.util, "find_spec", lambda name: object())


def ray(trial: Path, **options) -> Checkpoint:
    return run_with_ray(trial / "study.toml", trial / "run", sites=trial / "run" / "sites", **options)


def sleepers() -> set[str]:
    """Processes that the stand-in for the SuperLink started."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if path.read_bytes() == b"sleep\0" + b"60\0":
                found.add(path.parent.name)
        except OSError:
            continue
    return found


def test_what_flower_is_told(trial, monkeypatch):
    told = trial / "told.json"
    script = f"import json, os, sys; json.dump([sys.argv[1:], dict(os.environ)], open({str(told)!r}, 'w'))"
    fake_flower(trial, monkeypatch, superlink=LIVING, flwr=script)
    before = sleepers()
    with pytest.raises(StateError, match="nothing to resume"):  # the stand-in ran no rounds
        ray(trial)
    arguments, environment = json.loads(told.read_text())
    assert arguments[-1].startswith("num-supernodes=2 client-resources-num-cpus=1")
    assert f'study="{trial / "study.toml"}"' in arguments[-3]
    assert "resume=false" in arguments[-3]
    assert environment["FLWR_HOME"] == str(trial / "run" / "ray" / "flwr")
    for name in ("FLWR_DISABLE_UPDATE_CHECK", "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION"):
        assert environment[name] == "1"
    assert environment["FLWR_TELEMETRY_ENABLED"] == environment["RAY_USAGE_STATS_ENABLED"] == "0"
    bundle = tomllib.loads((trial / "run" / "ray" / "app" / "pyproject.toml").read_text())
    assert bundle["tool"]["flwr"]["app"]["fab-include"] == ["/README.md"]
    assert bundle["tool"]["flwr"]["app"]["components"]["clientapp"] == "willis.client.app:app"
    assert sleepers() <= before, "nothing that was started is left"


@pytest.mark.parametrize(
    ("superlink", "flwr", "told"),
    [
        ("raise SystemExit(3)", "", "ended with 3 at its start"),
        (LIVING, "raise SystemExit(4)", "`flwr run` ended with 4"),
        (LIVING, "import time; time.sleep(30)", r"did not end within 1(\.0)? s"),
    ],
)
def test_a_flower_that_fails_is_told_with_the_logs_place(trial, monkeypatch, superlink, flwr, told):
    fake_flower(trial, monkeypatch, superlink=superlink, flwr=flwr)
    before = sleepers()
    with pytest.raises(Unreachable, match=told) as caught:
        ray(trial, timeout_s=1)
    assert str(trial / "run" / "ray.log") in str(caught.value)
    assert sleepers() <= before, "nothing that was started is left"


def test_a_run_that_stopped_half_way_is_no_result(trial, monkeypatch):
    monkeypatch.setattr(door.training, "train_round", a_trainer)
    run_in_process(trial)
    longer = read_study(trial / "study.toml")
    cut = longer.model_copy(update={"training": longer.training.model_copy(update={"rounds": 5})})
    state = load(trial / "run" / "server", study_digest=longer.digest())
    monkeypatch.setattr(ray_engine, "load", lambda folder, *, study_digest: state)
    with pytest.raises(WillisError, match="after round 2 of 5"):
        ray_engine._result(trial / "run", cut, Path("ray.log"))


@pytest.mark.slow
def test_ray_runs_the_same_apps_and_a_refusal_comes_back_as_what_it_is(trial):
    """The sites have no patches, so both refuse, by code, through Flower and Ray."""
    pytest.importorskip("ray", reason="Ray is not installed")
    with pytest.raises(WillisError) as caught:
        ray(trial, timeout_s=240)
    assert caught.value.code == "quorum"
    assert PATIENT not in str(caught.value)
    assert (trial / "run" / "ray.log").stat().st_size > 0
    record = json.loads((trial / "run" / "metrics.jsonl").read_text())
    assert record["refused"] == {"north": "state", "south": "state"}
