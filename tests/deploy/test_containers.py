"""Images and compose files: what the tools of their trade say, and that health checks can fail."""

import fnmatch
import http.server
import json
import os
import re
import shlex
import ssl
import subprocess
import sys
import sysconfig
import threading
from pathlib import Path

import pytest
import yaml

from willis.server.hub.folder import make_hub
from willis.server.hub.kit import write_kit
from willis.server.hub.settings import HubSettings
from willis.server.hub.templates import render

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCRIPTS = Path(sysconfig.get_path("scripts"))
EXAMPLE: dict[str, str | int | tuple[int, int]] = {
    "hub": "/srv/willis/hub",
    "port": 8443,
    "collection_ports": (8444, 8445),
    "image": "localhost/willis",
}
COMPOSE = {
    service: yaml.safe_load((DEPLOY / room / "compose.yaml").read_text())["services"][service]
    for service, room in (("hub", "coordinator"), ("serving", "coordinator"), ("site", "hospital"))
}


def ran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


def test_compose_files_fit_their_schema():
    files = [DEPLOY / "coordinator/compose.yaml", DEPLOY / "hospital/compose.yaml"]
    fits = ran(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
    assert fits.returncode == 0, fits.stdout + fits.stderr


def test_what_a_hub_writes_fits_the_schema_too(tmp_path):
    hub = make_hub(tmp_path / "a hub", HubSettings(host="hub.example.org", port=8443))
    kit = write_kit(hub, "site-a", out=tmp_path / "kits")
    files = [hub.path / "compose.yaml", kit / "compose.yaml"]
    fits = ran(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", *files)
    assert fits.returncode == 0, fits.stdout + fits.stderr
    assert yaml.safe_load(files[0].read_text())["services"]["hub"]["command"] == ["hub", "up", str(hub.path)]


def test_the_schema_can_refuse(tmp_path):
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(json.dumps({"services": {"a": {"image": "b", "read_onyl": True}}}))
    assert ran(SCRIPTS / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", wrong).returncode == 1


@pytest.mark.parametrize("service", COMPOSE)
def test_containers_have_no_rights_to_lose(service):
    said = COMPOSE[service]
    assert said["read_only"] is True
    assert said["cap_drop"] == ["ALL"]
    assert said["security_opt"] == ["no-new-privileges:true"]
    assert said["user"] == "${WILLIS_USER:-10001:10001}"
    assert not {"privileged", "cap_add", "network_mode", "pid", "ipc", "devices"} & set(said)


@pytest.mark.parametrize(("running", "code"), [(True, 0), (False, 1)])
def test_a_site_is_healthy_while_it_runs(tmp_path, running, code):
    kind, line = COMPOSE["site"]["healthcheck"]["test"]
    assert kind == "CMD-SHELL"
    program = tmp_path / "willis"
    program.write_text(
        "#!/bin/sh\nprintf '%s' " + shlex.quote(json.dumps({"running": running, "payments": 1}))
    )
    program.chmod(0o755)
    path = os.pathsep.join([str(tmp_path), os.environ["PATH"]])
    assert subprocess.run(["sh", "-c", line], env={"PATH": path}).returncode == code


class Answer(http.server.BaseHTTPRequestHandler):
    """Answers as nginx does: 404 where SuperLink is there and knows no such page, 502 where it is not."""

    status = 404

    def do_GET(self) -> None:
        self.send_response(self.status)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as above
        del format, args


def asked(folder: Path, port: int) -> int:
    """Return the exit code of the hub's health check."""
    text = render("coordinator.compose.yaml.jinja", **EXAMPLE | {"hub": str(folder), "port": port})
    kind, program, *words = yaml.safe_load(text)["services"]["hub"]["healthcheck"]["test"]
    assert (kind, program) == ("CMD", "python")
    return ran(sys.executable, *words).returncode


@pytest.mark.parametrize(("status", "code"), [(404, 0), (502, 1)])
def test_a_hub_is_healthy_while_superlink_answers_behind_its_certificate(tmp_path, status, code):
    folders = [tmp_path / "hub", tmp_path / "other"]
    for folder in folders:
        make_hub(folder, HubSettings(host="hub.example.org"))
    with http.server.HTTPServer(("127.0.0.1", 0), type("As", (Answer,), {"status": status})) as door:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folders[0] / "tls/server.crt", folders[0] / "tls/server.key")
        door.socket = context.wrap_socket(door.socket, server_side=True)
        thread = threading.Thread(target=door.serve_forever)
        thread.start()
        try:
            assert asked(folders[0], door.server_port) == code
            assert asked(folders[1], door.server_port) == 1  # another hub's certificate
        finally:
            door.shutdown()
            thread.join()
    assert asked(folders[0], door.server_port) == 1  # nobody listens


def test_a_hospital_publishes_no_port_and_its_cohort_is_never_written():
    assert not {"ports", "expose"} & set(COMPOSE["site"])
    assert COMPOSE["site"]["volumes"][1].endswith(":${COHORT_FOLDER}:ro")
    assert COMPOSE["hub"]["ports"] == [f"{EXAMPLE['port']}:{EXAMPLE['port']}"]
    assert COMPOSE["serving"]["ports"] == ["8444:8444", "8445:8445"]


def test_dollars_in_paths_are_not_taken_for_variables():
    text = render("coordinator.compose.yaml.jinja", **EXAMPLE | {"hub": "/srv/$a"})
    assert yaml.safe_load(text)["services"]["hub"]["command"] == ["hub", "up", "/srv/$$a"]


def test_the_dockerfile_passes_hadolint():
    clean = ran(SCRIPTS / "hadolint", DEPLOY / "Dockerfile")
    assert (clean.returncode, clean.stdout) == (0, "")


def test_hadolint_can_refuse(tmp_path):
    (tmp_path / "Dockerfile").write_text("FROM debian\nRUN cd /tmp\n")
    assert ran(SCRIPTS / "hadolint", tmp_path / "Dockerfile").returncode == 1


def stages() -> dict[str, str]:
    parts = re.split(r"^FROM \S+ AS (\w+)$", (DEPLOY / "Dockerfile").read_text(), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_both_images_run_as_the_user_of_the_compose_files():
    found = stages()
    assert list(found)[-1] == "site"  # what is built where no target is named
    for service in COMPOSE:
        stage = "hub" if service == "serving" else service  # the hub's image, another command
        assert re.findall(r"^USER (.*)$", found[stage], re.M) == ["10001:10001"]
        assert COMPOSE[service]["image"] in (DEPLOY / "Dockerfile").read_text()
    assert 'ENTRYPOINT ["willis"]' in found["willis"]


def test_what_the_dockerfile_copies_is_there_and_sent():
    sent = [
        line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[0] == "!"
    ]
    for line in re.findall(r"^COPY (?!--from)(.*)$", stages()["build"], re.M):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert any(fnmatch.fnmatch(source, name) for name in sent), f"{source} is not sent"


def test_the_base_is_an_argument():
    text = (DEPLOY / "Dockerfile").read_text()
    assert re.search(r"^ARG BASE=\S*python:3\.12-slim$", text, re.M)
    assert re.findall(r"^FROM (\S+) AS", text, re.M) == ["${BASE}", "${BASE}", "willis", "willis"]
