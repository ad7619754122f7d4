"""What an operator installs: units, examples, scripts; every command line that they name is one of Willis."""

import importlib.util
import re
import shlex
import shutil
import subprocess
import sysconfig
from pathlib import Path

import click
import pytest
import yaml

from willis.server.hub.templates import render
from willis.shared.command import willis

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SCRIPTS = Path(sysconfig.get_path("scripts"))
GUIDE = (DEPLOY / "README.md").read_text(encoding="utf-8")

_spec = importlib.util.spec_from_file_location("deploy_render", DEPLOY / "render.py")
assert _spec is not None
assert _spec.loader is not None
rendering = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(rendering)

COMPOSE = {
    service: yaml.safe_load((DEPLOY / room / "compose.yaml").read_text())["services"][service]
    for service, room in (("hub", "coordinator"), ("serving", "coordinator"), ("site", "hospital"))
}
UNITS = {"hub": "hub.service.jinja", "serving": "serving.service.jinja", "site": "site.service.jinja"}
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def ran(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(word) for word in words], capture_output=True, text=True)


@pytest.mark.parametrize("name", rendering.WRITTEN)
def test_the_examples_are_what_the_templates_give(name):
    template = rendering.WRITTEN[name]
    assert (DEPLOY / name).read_bytes() == render(template, **rendering.EXAMPLE).encode(), (
        f"deploy/{name} is not what {template} gives: run python deploy/render.py"
    )


def unit(tmp_path: Path, service: str, **values: str | int | tuple[int, int]) -> Path:
    """Write a unit whose program exists here, as verify asks."""
    folder = rendering.EXAMPLE | {"willis": str(SCRIPTS / "willis")} | values
    file = tmp_path / f"willis-{service}.service"
    file.write_text(render(UNITS[service], **folder))
    return file


def verified(file: Path) -> subprocess.CompletedProcess[str]:
    return ran("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", file)


@needs_systemd
@pytest.mark.parametrize("service", UNITS)
@pytest.mark.parametrize("port", [8443, 443])
@pytest.mark.parametrize("folder", ["/srv/willis/a", "/home/willis/with space, 100%"])
def test_units_are_correct_and_confined(tmp_path, service, port, folder):
    file = unit(tmp_path, service, port=port, hub=folder, site=folder)
    correct = verified(file)
    assert (correct.returncode, correct.stderr) == (0, "")
    confined = ran("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", file)
    assert confined.returncode == 0, confined.stdout


@needs_systemd
@pytest.mark.parametrize("service", UNITS)
def test_the_checks_of_units_can_fail(tmp_path, service):
    file = unit(tmp_path, service)
    file.write_text(file.read_text().replace("ProtectSystem=", "ProtectSytem="))
    assert verified(file).returncode != 0
    file.write_text("[Service]\nExecStart=/bin/true\n")
    open_unit = ran("systemd-analyze", "security", "--offline=true", "--threshold=25", "--no-pager", file)
    assert open_unit.returncode != 0


def settings(text: str) -> dict[str, list[str]]:
    """Return the keys of a unit with all their values."""
    found: dict[str, list[str]] = {}
    for key, value in re.findall(r"^([A-Z]\w*)=(.*)$", text, re.M):
        found.setdefault(key, []).append(value)
    return found


@pytest.mark.parametrize("service", ["hub", "serving"])
def test_only_a_port_that_needs_it_gets_a_capability(tmp_path, service):
    low, high = (
        settings(unit(tmp_path, service, port=port, collection_ports=(8444, port)).read_text())
        for port in (443, 8443)
    )
    assert low["AmbientCapabilities"] == low["CapabilityBoundingSet"] == ["CAP_NET_BIND_SERVICE"]
    assert low["PrivateUsers"] == ["no"]  # a capability inside a user namespace opens no port of the host
    assert high["AmbientCapabilities"] == high["CapabilityBoundingSet"] == [""]
    assert high["PrivateUsers"] == ["yes"]


@pytest.mark.parametrize("service", UNITS)
def test_a_unit_writes_its_own_folder_and_nothing_else(tmp_path, service):
    said = settings(unit(tmp_path, service, hub="/srv/a b%", site="/srv/a b%").read_text())
    assert said["ReadWritePaths"] == ['"/srv/a b%%"']
    assert said["ProtectSystem"] == ["strict"]
    assert said["ProtectHome"] == ["read-only" if str(SCRIPTS).startswith(("/home/", "/root/")) else "yes"]
    assert said["LimitCORE"] == ["0"]


def test_the_serving_unit_does_not_see_the_keys_that_it_does_not_need(tmp_path):
    said = settings(unit(tmp_path, "serving", hub="/srv/a b%").read_text())["InaccessiblePaths"]
    assert [shlex.split(one) for one in said] == [
        [f"-/srv/a b%%/{secret}"] for secret in ("ca/ca.key", "release.key", "superexec.secret")
    ]


def test_two_containers_that_share_a_folder_may_both_use_it():
    # Z would relabel the folder for the container that starts last (SELinux) and shut the other one out.
    assert COMPOSE["hub"]["volumes"] == COMPOSE["serving"]["volumes"] == ["/srv/willis/hub:/srv/willis/hub:z"]


def command_of(line: str) -> list[str]:
    """Return the words of an ``ExecStart=``, as systemd reads them."""
    return [word.replace("%%", "%").replace("$$", "$") for word in shlex.split(line)]


def told_commands() -> dict[str, list[str]]:
    """Return every command line that units, compose files and the guide name."""
    found = {}
    for service in UNITS:
        text = render(UNITS[service], **rendering.EXAMPLE)
        program, *words = command_of(settings(text)["ExecStart"][0])
        assert program == rendering.EXAMPLE["willis"]
        found[f"{service} unit"] = words
        found[f"{service} compose"] = COMPOSE[service]["command"]
    health = re.fullmatch(r"willis (.*?) \| grep .*", COMPOSE["site"]["healthcheck"]["test"][1])
    assert health is not None
    found["site health"] = shlex.split(health[1])
    for line in re.findall(r"(?:^|[ /])willis ((?:site|hub) .*)$", "\n".join(blocks(GUIDE)), re.M):
        found[line] = shlex.split(line, comments=True)
    return found


def blocks(text: str) -> list[str]:
    return re.findall(r"^```\w*\n(.*?)^```", text, re.M | re.S)


@pytest.mark.parametrize("words", told_commands().values(), ids=told_commands())
def test_every_command_line_is_one_of_willis(words):
    node: click.Command = willis
    rest = list(words)
    while isinstance(node, click.Group):
        inner = node.get_command(click.Context(node), rest[0])
        assert inner is not None, f"`willis` knows no {rest[0]} in {words}"
        node, rest = inner, rest[1:]
    given, left, _ = node.make_parser(click.Context(node)).parse_args(rest)
    missing = [p.name for p in node.params if p.required and not given.get(p.name or "")]
    assert (left, missing) == ([], [])


def test_scripts_pass_shellcheck():
    scripts = sorted(DEPLOY.rglob("*.sh"))
    assert scripts
    clean = ran(SCRIPTS / "shellcheck", *scripts)
    assert clean.returncode == 0, clean.stdout


def test_shellcheck_can_refuse(tmp_path):
    (tmp_path / "a.sh").write_text("#!/bin/sh\nrm $1/*\n")
    assert ran(SCRIPTS / "shellcheck", tmp_path / "a.sh").returncode == 1


def test_the_guide_is_one_page_and_names_real_files():
    assert len(GUIDE.splitlines()) <= 170
    for name in re.findall(r"`(deploy/[\w./-]+)`", GUIDE):
        assert (ROOT / name).exists(), name
