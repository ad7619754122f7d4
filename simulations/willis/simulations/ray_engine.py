"""The same ServerApp and ClientApp under ``flwr run``, with Flower's own simulation engine (Ray).

For many sites or several GPUs. Needs no network: the app bundle is thin (it names the installed apps, and
ships a README), nothing is installed for it, and Flower's own telemetry and update check are off. A local
SuperLink is started for this one run on a free port of the loopback, and stopped by its process id.
"""

import importlib.util
import json
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.error import URLError
from urllib.request import ProxyHandler, build_opener

from willis.server.checkpoint import Checkpoint, load
from willis.shared import errors
from willis.shared.bundle import write_bundle
from willis.shared.errors import Unreachable, WillisError
from willis.shared.processes import end_family, flower_environment, free_port, script
from willis.shared.study import Study, read_study

_START_S = 60.0
_CONNECTION = "willis"


def run_with_ray(
    study_path: Path,
    folder: Path,
    *,
    sites: Path,
    resume: bool = False,
    cpus_per_site: int = 1,
    gpus_per_site: float = 0.0,
    timeout_s: float | None = None,
) -> Checkpoint:
    """Run a study's rounds on Ray.

    Args:
        study_path: The study's TOML.
        folder: The run's folder; Flower's files go to ``ray/`` in it, the log to ``ray.log``.
        sites: Folder with NAME/site.toml for every site of the study.
        resume: Continue the run in the folder.
        cpus_per_site: CPU cores that one site takes while it trains; Ray runs as many sites as fit.
        gpus_per_site: GPUs, or the share of one.
        timeout_s: The most that the whole run may take; None waits for ever.

    Returns:
        Where the run stands after its last round.

    Raises:
        Unreachable: Ray is not installed, or Flower did not start or end; the log's place is in the message.
        WillisError: What the coordinator raised, of the same kind.
    """
    if importlib.util.find_spec("ray") is None:
        raise Unreachable('engine "ray" needs Ray, which is not installed: pip install "willis[ray]"')
    study = read_study(study_path)
    folder = folder.resolve()
    work, log = folder / "ray", folder / "ray.log"
    port = free_port()
    _write_folders(work, port)
    config = {"study": study_path.resolve(), "run": folder, "sites": sites.resolve(), "resume": resume}
    federation = {
        "num-supernodes": len(study.federation.sites),
        "client-resources-num-cpus": cpus_per_site,
        "client-resources-num-gpus": gpus_per_site,
    }
    command = _flwr_run(work / "app", config=config, federation=federation)
    (folder / "server" / "failure.json").unlink(missing_ok=True)
    _launch(command, port=port, environment=_environment(work), log=log, timeout_s=timeout_s)
    return _result(folder, study, log)


def _launch(
    command: list[str], *, port: int, environment: Mapping[str, str], log: Path, timeout_s: float | None
) -> None:
    with log.open("ab") as sink, _superlink(port, environment, log=log, sink=sink.fileno()):
        try:
            ended = subprocess.run(command, env=environment, stdout=sink, stderr=sink, timeout=timeout_s)
        except subprocess.TimeoutExpired as fault:
            raise Unreachable(f"the run did not end within {timeout_s} s; its log is {log}") from fault
    if ended.returncode != 0:
        raise Unreachable(f"`flwr run` ended with {ended.returncode}; its log is {log}")


def _result(folder: Path, study: Study, log: Path) -> Checkpoint:
    failure = folder / "server" / "failure.json"
    if failure.exists():
        told = json.loads(failure.read_text(encoding="utf-8"))
        kinds = {
            k.code: k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, WillisError)
        }
        raise kinds.get(told["code"], WillisError)(f"{told['message']} (log: {log})")
    state = load(folder / "server", study_digest=study.digest())
    if state.round != study.training.rounds:
        raise WillisError(f"the run stopped after round {state.round} of {study.training.rounds}; see {log}")
    return state


def _write_folders(work: Path, port: int) -> None:
    home = work / "flwr"
    write_bundle(work / "app")
    home.mkdir(parents=True, exist_ok=True)
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n',
        encoding="utf-8",
    )


def _environment(work: Path) -> dict[str, str]:
    return flower_environment(work / "flwr") | {
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
    }


def _flwr_run(app: Path, *, config: Mapping[str, object], federation: Mapping[str, object]) -> list[str]:
    return [
        script("flwr"),
        *("run", str(app), _CONNECTION, "--stream"),
        *("--run-config", _toml(config)),
        *("--federation-config", _toml(federation)),
    ]


def _toml(values: Mapping[str, object]) -> str:
    return " ".join(
        f"{key}={json.dumps(str(value) if isinstance(value, Path) else value)}"
        for key, value in values.items()
    )


@contextmanager
def _superlink(port: int, environment: Mapping[str, str], *, log: Path, sink: int) -> Iterator[None]:
    """Keep a local SuperLink for as long as the block lasts."""
    command = [
        script("flower-superlink"),
        *("--insecure", "--simulation", "--isolation", "subprocess"),
        *("--host", "127.0.0.1", "--port", str(port), "--disable-runtime-dependency-installation"),
    ]
    process = subprocess.Popen(
        command, env=dict(environment), stdout=sink, stderr=sink, start_new_session=True
    )
    try:
        _wait_until_healthy(process, port, log)
        yield
    finally:
        end_family(process)


def _wait_until_healthy(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    opener = build_opener(ProxyHandler({}))  # the loopback needs no proxy
    until = time.monotonic() + _START_S
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Unreachable(f"Flower's SuperLink ended with {process.returncode} at its start; see {log}")
        try:
            with opener.open(f"http://127.0.0.1:{port}/health", timeout=2):
                return
        except (URLError, OSError):
            time.sleep(0.2)
    raise Unreachable(f"Flower's SuperLink did not answer within {_START_S:g} s; see {log}")
