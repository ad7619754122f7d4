"""A hub's folder: made once, completed later, its authority never replaced, its secrets its owner's alone."""

import json
import ssl
import stat
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509

from willis.server.hub import certificates
from willis.server.hub.command import hub as command
from willis.server.hub.folder import HubFolder, make_hub, open_hub, write_derived
from willis.server.hub.programs import find_nginx, programs_of
from willis.server.hub.settings import HubSettings
from willis.shared.errors import StateError, Unreachable


def test_every_secret_is_its_owners_alone(hub: HubFolder) -> None:
    for secret in (hub.authority[0], hub.server[0], hub.secret):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    folders = [path for path in hub.path.rglob("*") if path.is_dir() and path.name != "bundle"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (hub.path, *folders)} == {0o700}


def test_a_secret_that_others_may_read_is_refused(hub: HubFolder) -> None:
    hub.secret.chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        open_hub(hub.path)


def test_made_again_it_is_the_same_hub(hub: HubFolder) -> None:
    kept = [*hub.authority, *hub.server, hub.secret]
    before = [path.read_bytes() for path in kept]
    assert open_hub(hub.path) == make_hub(hub.path, hub.settings) == hub
    assert [path.read_bytes() for path in kept] == before


def test_another_host_is_refused_and_named(hub: HubFolder) -> None:
    other = hub.settings.model_copy(update={"host": "hub.example.org"})
    with pytest.raises(StateError, match=r"host is localhost, asked for was hub\.example\.org"):
        make_hub(hub.path, other)


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(StateError, match="no hub"):
        make_hub(tmp_path, HubSettings(host="localhost"))
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize("name", ['a"b', "a$b", "a\nb", "a\\b"])
def test_a_path_that_would_break_out_of_nginx_conf_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(StateError, match=r"nginx\.conf"):
        make_hub(tmp_path / name, HubSettings(host="localhost"))


@pytest.mark.parametrize("host", ["", "a b", 'a"; return 200;', "-a", "a\n"])
def test_a_host_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    ended = CliRunner().invoke(command, ["init", str(tmp_path / "hub"), "--host", host])
    assert isinstance(ended.exception, StateError)
    assert not (tmp_path / "hub").exists()


def test_the_certificate_is_the_authoritys_and_names_the_host(tmp_path: Path) -> None:
    made = make_hub(tmp_path / "hub", HubSettings(host="10.1.2.3"))
    server = x509.load_pem_x509_certificate(made.server[1].read_bytes())
    authority = x509.load_pem_x509_certificate(made.authority[1].read_bytes())
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [str(name.value) for name in names] == ["10.1.2.3", "localhost", "127.0.0.1"]
    assert authority.extensions.get_extension_for_class(x509.BasicConstraints).critical
    ssl.create_default_context(cafile=str(made.authority[1])).load_cert_chain(made.server[1], made.server[0])


def test_a_certificate_that_ends_soon_is_renewed(hub: HubFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, server = hub.authority[1].read_bytes(), hub.server[1].read_bytes()
    monkeypatch.setattr(certificates, "RENEWED_BEFORE_DAYS", certificates.SERVER_DAYS + 1)
    write_derived(hub)
    assert hub.server[1].read_bytes() != server
    assert hub.authority[1].read_bytes() == authority
    ends = x509.load_pem_x509_certificate(hub.server[1].read_bytes()).not_valid_after_utc
    assert ends - datetime.now(UTC) > timedelta(days=certificates.SERVER_DAYS - 1)


def test_a_key_that_does_not_fit_its_certificate_is_renewed(hub: HubFolder, tmp_path: Path) -> None:
    other = make_hub(tmp_path / "other", HubSettings(host="localhost"))
    hub.server[0].write_bytes(other.server[0].read_bytes())
    assert certificates.is_due(hub.server, host="localhost")
    assert not certificates.is_due(other.server, host="localhost")


def test_an_authority_is_never_overwritten(hub: HubFolder) -> None:
    with pytest.raises(StateError, match="never overwritten"):
        certificates.make_authority(*hub.authority, host="localhost")


def test_nginx_takes_the_configuration(hub: HubFolder) -> None:
    try:
        nginx = find_nginx()
    except Unreachable as fault:
        pytest.skip(str(fault))
    told = subprocess.run(
        [nginx, "-t", "-p", str(hub.path), "-e", "stderr", "-c", str(hub.path / "nginx.conf")],
        capture_output=True,
        text=True,
    )
    assert told.returncode == 0, told.stderr


def test_only_nginx_listens_beyond_the_loopback(tmp_path: Path) -> None:
    made = make_hub(tmp_path / "hub", HubSettings(host="localhost", port=8443))
    superlink, superexec, _ = programs_of(made, "nginx")
    words = superlink.command
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert {"--enable-supernode-auth", "--superexec-auth-secret-file", "--database"} <= set(words)
    assert "--insecure" not in (*words, *superexec.command)
    assert (tmp_path / "hub" / "nginx.conf").read_text().count("listen ") == 1


def test_init_tells_a_machine_where_the_hub_is(tmp_path: Path) -> None:
    words = ["init", str(tmp_path / "hub"), "--host", "hub.example.org", "--port", "8443", "--json"]
    ended = CliRunner().invoke(command, words, catch_exceptions=False)
    told = json.loads(ended.output)
    assert told["address"] == "hub.example.org:8443"
    assert len(told["authority"].split(":")) == 32


def test_an_init_that_was_killed_can_be_run_again(tmp_path: Path) -> None:
    settings = HubSettings(host="localhost", port=8443)
    hub = make_hub(tmp_path / "hub", settings)
    (hub.path / "hub.toml").unlink()  # killed before the last file
    hub.authority[1].unlink()  # and between the authority's two
    again = make_hub(tmp_path / "hub", settings)
    assert again.authority[1].exists()


def test_a_lost_authority_is_told_and_none_is_made_in_its_place(hub: HubFolder) -> None:
    hub.authority[1].unlink()
    with pytest.raises(StateError, match="restore ca/ from a backup"):
        make_hub(hub.path, hub.settings)
    assert not hub.authority[1].exists()
