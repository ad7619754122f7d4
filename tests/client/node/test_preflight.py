"""The preflight: every fault has its sentence and its exit code, and none raises."""

import gzip
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, HTTPServer
from ipaddress import ip_address
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from willis.client.node.enrolment import enrol
from willis.client.node.header_text import files_with_text
from willis.client.node.optout import change
from willis.client.node.preflight import check_site
from willis.client.node.reach import check_reach
from willis.client.node.verdict import Check
from willis.client.site import HubLink, read_site
from willis.client.training import open_ledger
from willis.shared.command import willis
from willis.shared.mechanism import mechanism_of
from willis.shared.study import read_study


def authority(folder: Path, *, days: int = 90, name: str = "ca") -> Path:
    """Write a certificate for loopback that vouches for itself; returns its path, the key beside it."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test hub")])
    built = x509.CertificateBuilder().subject_name(who).issuer_name(who).public_key(key.public_key())
    built = built.serial_number(x509.random_serial_number()).not_valid_before(now - timedelta(days=100))
    built = built.not_valid_after(now + timedelta(days=days, minutes=5))
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    built = built.add_extension(names, critical=False)
    built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    path = folder / f"{name}.crt"
    path.write_bytes(built.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    form = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    path.with_suffix(".key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *form))
    return path


class Answer(BaseHTTPRequestHandler):
    """A hub that answers 404, as nginx does, by a clock of its own."""

    ahead = timedelta()

    def do_HEAD(self) -> None:
        self.send_response_only(404)
        self.send_header("Date", format_datetime(datetime.now(UTC) + self.ahead, usegmt=True))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Say nothing."""


@pytest.fixture
def hub_at() -> Iterator[Callable[..., HubLink]]:
    """Start a hub on loopback with a certificate; returns the link to it."""
    running = []

    def start(certificate: Path, *, ahead: timedelta = timedelta()) -> HubLink:
        server = HTTPServer(("127.0.0.1", 0), type("Clock", (Answer,), {"ahead": ahead}))
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, certificate.with_suffix(".key"))
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        running.append(server)
        return HubLink(address=f"127.0.0.1:{server.server_port}", ca=certificate)

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    for name in ("HTTPS_PROXY", "https_proxy", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def site(tmp_path, phantom_cohort, tiny_study_file, hub_at) -> Path:
    folder = tmp_path / "site-a"
    folder.mkdir()
    link = hub_at(authority(folder))
    (folder / "site.toml").write_text(
        'name = "site-a"\ncohort = "cohort.csv"\nstate = "state"\nepsilon_cap = 8.0\ndelta = 1e-3\n'
        f'minimum_subjects = 3\nstudies = []\n[hub]\naddress = "{link.address}"\n'
    )
    enrol(folder, cohort=phantom_cohort(subjects=4, sites=("site-a",)), study=tiny_study_file())
    return folder


def found(folder: Path) -> dict[str, Check]:
    return {check.name: check for check in check_site(folder)}


def test_a_sound_site_passes(site):
    checks = found(site)
    assert {name for name, check in checks.items() if check.state == "fault"} == set()
    wanted = "data identity subjects device ledger audit telemetry name port TLS authority certificate clock"
    assert set(wanted.split()) | {"configuration", "keys", "studies", "dry step", "disk"} == set(checks)
    result = CliRunner().invoke(willis, ["site", "check", str(site), "--json"])
    told = json.loads(result.stdout)
    assert (result.exit_code, told["exit_code"], len(told["checks"])) == (0, 0, len(checks))


def pay_all(site: Path) -> None:
    settings = read_site(site / "site.toml")
    study = read_study(site.parent / "study.toml")
    with open_ledger(settings, study) as ledger:
        run = mechanism_of(study, steps=study.training.draws)
        ledger.reserve(study=study.digest(), purpose="run-1/round-1", inputs="0", run=run)
    text = (site / "site.toml").read_text()
    (site / "site.toml").write_text(text.replace("epsilon_cap = 8.0", "epsilon_cap = 7.0"))


def alter_ledger(site: Path) -> None:
    (site / "state" / "ledger.sqlite").write_bytes(b"not a ledger" * 100)


FAULTS: dict[str, tuple[Callable[[Path], object], int]] = {
    "configuration": (lambda site: (site / "site.toml").write_text('name = "North"\n'), 2),
    "keys": (lambda site: (site / "node.key").chmod(0o644), 2),
    "data": (lambda site: (site.parent / "export" / "cohort.csv").unlink(), 2),
    "subjects": (lambda site: change(read_site(site / "site.toml"), ["p0", "p1"]), 1),
    "ledger": (pay_all, 1),
    "audit": (lambda site: (site / "audit.jsonl").write_text("{}\n"), 2),
    "authority": (lambda site: (site / "ca.crt").write_text("no certificate"), 2),
    "TLS": (lambda site: authority(site), 3),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found_with_its_exit_code(site, name):
    spoil, code = FAULTS[name]
    spoil(site)
    check = found(site)[name]
    assert (check.state, check.exit_code) == ("fault", code)
    assert CliRunner().invoke(willis, ["site", "check", str(site)]).exit_code >= code


def test_a_damaged_ledger_is_found(site):
    alter_ledger(site)
    assert found(site)["ledger"].exit_code == 2


def test_a_hub_that_is_not_there_is_unreachable(site):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    link = HubLink(address=f"127.0.0.1:{port}", ca=site / "ca.crt")
    assert [(check.name, check.exit_code) for check in check_reach(link)] == [("name", 0), ("port", 3)]
    unknown = HubLink(address="hub.invalid:443", ca=site / "ca.crt")
    assert [(check.name, check.exit_code) for check in check_reach(unknown)] == [("name", 3)]


@pytest.mark.parametrize(
    ("ahead", "state"), [(-600, "fault"), (-4, "ok"), (200, "ok"), (400, "fault"), (-10, "fault")]
)
def test_a_clock_that_the_hub_would_refuse_is_found(tmp_path, hub_at, ahead, state):
    link = hub_at(authority(tmp_path), ahead=timedelta(seconds=ahead))
    assert {check.name: check.state for check in check_reach(link)}["clock"] == state


def test_a_certificate_that_ends_soon_is_told(tmp_path, hub_at):
    checks = {check.name: check for check in check_reach(hub_at(authority(tmp_path, days=5)))}
    assert {checks["certificate"].state, checks["authority"].state} == {"warning"}
    assert "5 days" in checks["certificate"].sentence


def test_a_certificate_that_ended_is_a_fault(tmp_path, hub_at):
    checks = {check.name: check for check in check_reach(hub_at(authority(tmp_path, days=-3)))}
    assert (checks["authority"].exit_code, checks["TLS"].exit_code) == (3, 3)


def test_a_proxy_is_used_where_the_machine_has_one(tmp_path, hub_at, monkeypatch):
    link = hub_at(authority(tmp_path))
    asked: list[bytes] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def tunnel() -> None:
        for _ in range(2):  # the probe of the port, then the tunnel
            one, _ = listener.accept()
            words = one.recv(4096)
            if not words:
                one.close()
                continue
            asked.append(words.split(b"\r\n")[0])
            hub = socket.create_connection(("127.0.0.1", link.port))
            one.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            threading.Thread(target=pipe, args=(hub, one), daemon=True).start()
            pipe(one, hub)

    def pipe(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):  # the other direction has ended it
            while data := source.recv(4096):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    threading.Thread(target=tunnel, daemon=True).start()
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
    checks = {check.name: check.state for check in check_reach(link)}
    listener.close()
    assert checks["TLS"] == "ok"
    assert [words.rsplit(b" ", 1)[0] for words in asked] == [f"CONNECT 127.0.0.1:{link.port}".encode()]


def test_free_text_in_a_nifti_header_is_counted(tmp_path):
    for number, text in enumerate((b"", b"SURNAME GIVEN")):
        header = bytearray(400)
        header[148 : 148 + len(text)] = text
        (tmp_path / f"{number}.nii").write_bytes(header)
        (tmp_path / f"{number}.nii.gz").write_bytes(gzip.compress(bytes(header)))
    (tmp_path / "picture.png").write_bytes(b"text")
    assert files_with_text(tmp_path.iterdir()) == (2, 4)
