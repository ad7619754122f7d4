"""The processes of the traffic measurement: SuperLink with TLS, two SuperNodes behind a counting relay."""

import json
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from willis.server.hub.certificates import make_authority, make_server_certificate
from willis.shared.bundle import Apps, write_bundle
from willis.shared.errors import Unreachable
from willis.shared.processes import Keeper, Program, flower_environment, free_port, script
from willis.simulations.benchmarks.traffic_app import SITES
from willis.simulations.benchmarks.traffic_relay import Relay

_CONNECTION = "traffic"
_APPS = Apps(
    "willis-traffic",
    "willis.simulations.benchmarks.traffic_app:server",
    "willis.simulations.benchmarks.traffic_app:client",
    {"plan": "", "diary": ""},
)


@dataclass(frozen=True)
class Federation:
    """A running federation.

    Attributes:
        folder: Of the measurement.
        relay: Between SuperLink and SuperNodes; it carries what they say, and nothing else.
        environment: Of Flower's programs.
    """

    folder: Path
    relay: Relay
    environment: Mapping[str, str]

    def run(self, plan: Sequence[Mapping[str, object]], *, timeout_s: float) -> list[dict]:
        """Run rounds; return each as the coordinator noted it.

        Raises:
            Unreachable: Flower did not run all of them in time, or a site did not answer one.
        """
        plan_file, diary = self.folder / "plan.json", self.folder / "diary.jsonl"
        plan_file.write_text(json.dumps(list(plan)), encoding="utf-8")
        config = f"plan={json.dumps(str(plan_file))} diary={json.dumps(str(diary))}"
        command = [script("flwr"), "run", str(self.folder / "app"), _CONNECTION, "--stream"]
        log = self.folder / "run.log"
        with log.open("ab") as sink:
            try:
                subprocess.run(
                    [*command, "--run-config", config],
                    env=dict(self.environment),
                    stdout=sink,
                    stderr=sink,
                    timeout=timeout_s,
                    check=True,
                )
            except subprocess.SubprocessError as fault:
                raise Unreachable(f"`flwr run` failed ({type(fault).__name__}); its log is {log}") from fault
        rounds = [json.loads(line) for line in diary.read_text(encoding="utf-8").splitlines()]
        if [noted["answered"] for noted in rounds] != [SITES] * len(plan):
            raise Unreachable(f"{len(rounds)} of {len(plan)} rounds ended, or a site is missing; see {log}")
        return rounds


@contextmanager
def federation(folder: Path) -> Iterator[Federation]:
    """Keep a SuperLink with TLS and two SuperNodes on the loopback for as long as the block lasts."""
    port = free_port()
    environment = flower_environment(folder / "flower") | {
        "NO_PROXY": "127.0.0.1,localhost",
        "no_proxy": "127.0.0.1,localhost",
        "OMP_NUM_THREADS": "1",
    }
    _write_folder(folder, port)
    with Relay(port) as relay:
        keeper = Keeper(_programs(folder, environment, port=port, relay=relay.port))
        keeper.start(patience_s=120.0)
        try:
            yield Federation(folder, relay, environment)
        finally:
            keeper.stop()


def certificate_of(folder: Path) -> tuple[Path, Path]:
    """Return certificate and key of the measurement's server."""
    return folder / "server.crt", folder / "server.key"


def authority_of(folder: Path) -> Path:
    """Return the certificate that its sites trust."""
    return folder / "ca.crt"


def _write_folder(folder: Path, port: int) -> None:
    app, home = folder / "app", folder / "flower"
    home.mkdir(parents=True)
    write_bundle(app, _APPS)
    authority = (folder / "ca.key", authority_of(folder))
    certificate, key = certificate_of(folder)
    make_authority(*authority, host="localhost")
    make_server_certificate(authority, (key, certificate), host="localhost")
    (home / "config.toml").write_text(
        f'[superlink]\ndefault = "{_CONNECTION}"\n\n[superlink.{_CONNECTION}]\n'
        f'address = "127.0.0.1:{port}"\nroot-certificates = {json.dumps(str(authority[1]))}\n',
        encoding="utf-8",
    )


def _programs(folder: Path, environment: Mapping[str, str], *, port: int, relay: int) -> list[Program]:
    certificate, key = certificate_of(folder)
    authority = str(authority_of(folder))
    link = [
        *(script("flower-superlink"), "--host", "127.0.0.1", "--port", str(port)),
        *("--ssl-ca-certfile", authority, "--ssl-certfile", str(certificate), "--ssl-keyfile", str(key)),
        *("--database", str(folder / "state.db"), "--disable-runtime-dependency-installation"),
    ]
    nodes = [
        [
            *(script("flower-supernode"), "--superlink", f"127.0.0.1:{relay}"),
            *("--root-certificates", authority, "--port", str(free_port())),
            *("--node-config", f"place={place}"),
        ]
        for place in range(SITES)
    ]
    programs = [("superlink", link), *((f"supernode-{place}", node) for place, node in enumerate(nodes))]
    return [
        Program(
            name=name,
            command=tuple(command),
            environment=environment,
            log=folder / f"{name}.jsonl",
            ready=(lambda: _answers(port, authority)) if name == "superlink" else None,
        )
        for name, command in programs
    ]


def _answers(port: int, authority: str) -> bool:
    trust = urllib.request.HTTPSHandler(context=ssl.create_default_context(cafile=authority))
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), trust)
    try:
        with opener.open(f"https://127.0.0.1:{port}/health", timeout=2):
            return True
    except (urllib.error.URLError, OSError):
        return False
