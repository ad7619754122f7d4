"""A site's real processes against a real SuperLink: what is executed, what leaves, what comes back."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from willis.client.node.audit import AUDIT_FILE, AuditLog
from willis.client.node.enrolment import enrol
from willis.client.node.programs import _listens, states
from willis.client.node.spending import spending_of
from willis.client.site import read_site
from willis.shared.bundle import write_bundle
from willis.shared.processes import Keeper, Program, flower_environment, free_port, script

pytestmark = [pytest.mark.federation, pytest.mark.timeout(600)]

FOREIGN = """\
import json, time
from pathlib import Path
from flwr.app import Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

app = ServerApp()
client = ClientApp()
OUT = Path({out!r})

@app.main()
def main(grid, context):
    while not (nodes := list(grid.get_node_ids())):
        time.sleep(1)
    asked = [Message(RecordDict(), node, "query.hello") for node in nodes]
    answers = grid.send_and_receive(asked, timeout=90)
    told = [[one.has_error(), one.error.code, one.error.reason] for one in answers]
    OUT.write_text(json.dumps(told))

@client.query("hello")
def hello(message, context):
    OUT.with_name("executed").write_text("at the site")
    return Message(RecordDict(), reply_to=message)
"""


def until(true: Callable[[], object], *, what: str, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, f"not in {seconds:g} s: {what}"
        time.sleep(0.5)


def certificates(folder: Path) -> None:
    now, keys = (
        datetime.now(UTC),
        {name: ec.generate_private_key(ec.SECP256R1()) for name in ("ca", "server")},
    )
    issuer = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test authority")])
    for name, key in keys.items():
        about = x509.CertificateBuilder().public_key(key.public_key()).issuer_name(issuer)
        about = about.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(minutes=5))
        about = about.not_valid_after(now + timedelta(days=2))
        if name == "ca":
            about = about.subject_name(issuer).add_extension(x509.BasicConstraints(True, None), critical=True)
        else:
            mine = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
            names = [x509.DNSName("localhost"), x509.IPAddress(ip_address("127.0.0.1"))]
            about = about.subject_name(mine).add_extension(x509.SubjectAlternativeName(names), critical=False)
        written = about.sign(keys["ca"], hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        (folder / f"{name}.crt").write_bytes(written)
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (folder / "server.key").write_bytes(keys["server"].private_bytes(serialization.Encoding.PEM, *form))
    (folder / "superexec.secret").write_text("a secret of the test's hub")


class Hub:
    """A SuperLink and its executor, on loopback, until stopped."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        certificates(folder)
        self.folder, self.port = folder, free_port()
        self.environment = flower_environment(folder / "flwr") | {"OMP_NUM_THREADS": "1"}
        (folder / "flwr").mkdir()
        (folder / "flwr" / "config.toml").write_text(
            f'[superlink]\ndefault = "hub"\n[superlink.hub]\naddress = "127.0.0.1:{self.port}"\n'
            f'root-certificates = "{folder / "ca.crt"}"\n'
        )
        secret = ("--superexec-auth-secret-file", str(folder / "superexec.secret"))
        pair = ("--ssl-certfile", str(folder / "server.crt"), "--ssl-keyfile", str(folder / "server.key"))
        link = (
            *(script("flower-superlink"), "--ssl-ca-certfile", str(folder / "ca.crt"), *pair),
            *("--enable-supernode-auth", "--database", str(folder / "state.db"), "--host", "127.0.0.1"),
            *("--port", str(self.port), "--isolation", "process", *secret),
        )
        executor = (
            *(script("flower-superexec"), "--runtime-api-address", f"127.0.0.1:{self.port}"),
            *("--root-certificates", str(folder / "ca.crt"), *secret),
        )
        self.keeper = Keeper(
            [
                Program(
                    "superlink",
                    link,
                    self.environment,
                    folder / "superlink.jsonl",
                    lambda: _listens(self.port),
                ),
                Program("superexec", executor, self.environment, folder / "superexec.jsonl"),
            ]
        )
        self.keeper.start(patience_s=180)

    def flwr(self, *words: str) -> str:
        ended = subprocess.run(
            [script("flwr"), *words], env=self.environment, capture_output=True, text=True, timeout=120
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        return ended.stdout


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    hub = Hub(tmp_path / "hub")
    yield hub
    hub.keeper.stop()


@pytest.fixture
def running_site(
    hub: Hub, tmp_path: Path, phantom_cohort, tiny_study_file
) -> Iterator[tuple[Path, subprocess.Popen]]:
    """Enrol a site, register its key and run it; whatever happens nothing of it is left."""
    folder = tmp_path / "site-a"
    folder.mkdir()
    (folder / "site.toml").write_text(
        'name = "site-a"\ncohort = "cohort.csv"\nstate = "state"\nepsilon_cap = 8.0\ndelta = 1e-3\n'
        f'threads = 1\nstudies = []\n\n[hub]\naddress = "127.0.0.1:{hub.port}"\n'
    )
    (folder / "ca.crt").write_bytes((hub.folder / "ca.crt").read_bytes())
    study = tiny_study_file(training={"rounds": 1}, federation={"quorum": 1, "deadline_s": 60})
    enrol(folder, cohort=phantom_cohort(subjects=6, sites=("site-a",)), study=study)
    hub.flwr("supernode", "register", str(folder / "site-a.pub"), "hub", "--name", "site-a")
    main = "from willis.shared.command import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", main, "site", "run", str(folder)],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )
    until(lambda: states(read_site(folder / "site.toml")), what="the site's programs", seconds=180)
    yield folder, process
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=90) == 0


def audited(folder: Path, event: str) -> list[dict]:
    return [line for line in AuditLog(folder / AUDIT_FILE).read() if line["event"] == event]


def test_only_the_sites_own_bundle_is_executed_and_all_that_leaves_is_counted(
    hub: Hub, running_site: tuple[Path, subprocess.Popen], tmp_path: Path
):
    folder, _ = running_site
    # 1. a bundle with code of the hub's: refused, told, nothing of it run at the site
    foreign, out = tmp_path / "foreign", tmp_path / "told.json"
    write_bundle(foreign)
    (foreign / "foreign_app.py").write_text(FOREIGN.format(out=str(out)))
    about = (foreign / "pyproject.toml").read_text().replace('["/README.md"]', '["/README.md", "/*.py"]')
    about = about.replace("willis.server.app:app", "foreign_app:app")
    (foreign / "pyproject.toml").write_text(about.replace("willis.client.app:app", "foreign_app:client"))
    hub.flwr("run", str(foreign), "hub")
    until(out.exists, what="the foreign bundle's server side", seconds=180)
    assert json.loads(out.read_text()) == [[True, 7, "invalid-fab"]]
    assert not (tmp_path / "executed").exists()
    assert len(audited(folder, "bundle-refused")) == 1
    assert audited(folder, "left")[0]["error"] == "invalid-fab"

    # 2. the bundle of the installed Willis: the study runs, and the audit log has its price
    bundle, run = tmp_path / "bundle", tmp_path / "run"
    write_bundle(bundle)
    run.mkdir()
    words = f'study="{tmp_path / "study.toml"}" run="{run}"'
    hub.flwr("run", str(bundle), "hub", "--run-config", words)

    def paid() -> list[dict]:
        return [line for line in audited(folder, "left") if line.get("epsilon")]

    until(paid, what="an answer that was paid for", seconds=240)
    spending = spending_of(read_site(folder / "site.toml"))
    assert spending.spent is not None
    assert paid()[0]["epsilon"] == pytest.approx(spending.spent.epsilon)
    assert paid()[0]["ledger_head"] == spending.head
    assert int(paid()[0]["bytes"]) > 1000
    assert len(audited(folder, "leaving")) == len(audited(folder, "left"))


def test_a_killed_supernode_is_back(hub: Hub, running_site: tuple[Path, subprocess.Popen]):
    folder, _ = running_site
    settings = read_site(folder / "site.toml")
    before = states(settings)
    assert before is not None
    os.kill(int(str(before["supernode"]["pid"])), signal.SIGKILL)

    def restarted() -> bool:
        now = states(settings)
        return bool(now and now["supernode"]["restarts"] == 1 and now["supernode"]["pid"])

    until(restarted, what="the supernode again", seconds=90)
