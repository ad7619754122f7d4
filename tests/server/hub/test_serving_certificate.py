"""Serving signs nothing: it needs neither the authority's key nor the releases', and says who renews."""

import logging
import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.serving_trial import RUN, door_of, hub_with_release, kit_of

from willis.server.hub import certificates
from willis.server.hub.folder import HubFolder
from willis.server.hub.serving import check_certificate, serving
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.command import willis
from willis.shared.errors import StateError


@pytest.fixture
def hub(tmp_path: Path) -> HubFolder:
    return hub_with_release(tmp_path)


def told_command(text: str) -> list[str]:
    """Return the words of the first command that a sentence names, without ``willis``."""
    found = re.search(r"`willis (hub init .*?)`", text)
    assert found is not None, text
    return shlex.split(found[1])


def renewed(text: str) -> None:
    ended = CliRunner().invoke(willis, told_command(text))
    assert ended.exit_code == 0, ended.output


@pytest.mark.parametrize("how", ["gone", "hidden"])
def test_it_serves_without_the_keys_that_sign(hub: HubFolder, how: str) -> None:
    kit = kit_of(hub)
    for secret in (hub.authority[0], hub.release_key[0], hub.secret):
        secret.unlink()
        if how == "hidden":  # as systemd hides it: something without rights, content or owner
            secret.touch(mode=0o000)
    with serving(hub, grace_s=0), door_of(kit) as door:
        assert [one.name for one in door.releases()] == [RUN]
        assert sum(len(images) for images, _ in RemotePairs(door, RUN, n=2, seed=0)) == 2


def test_a_certificate_that_is_lost_is_not_made_anew_but_the_command_is_named(hub: HubFolder) -> None:
    hub.server[1].unlink()
    with pytest.raises(StateError, match=r"server\.crt is lost, has ended") as caught, serving(hub):
        pytest.fail("served without a certificate")
    assert not hub.server[1].exists()
    renewed(str(caught.value))
    with serving(hub, grace_s=0), door_of(kit_of(hub)) as door:
        assert [one.name for one in door.releases()] == [RUN]


def test_a_certificate_that_has_ended_is_refused(hub: HubFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as short:
        short.setattr(certificates, "SERVER_DAYS", 0)
        certificates.make_server_certificate(hub.authority, hub.server, host=hub.settings.host)
    assert certificates.days_left(hub.server, host="localhost") == 0
    with pytest.raises(StateError, match="as does `willis hub up`") as caught:
        check_certificate(hub)
    renewed(str(caught.value))
    check_certificate(hub)


def test_a_certificate_that_ends_soon_serves_and_is_logged_with_the_command(
    hub: HubFolder, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with monkeypatch.context() as short:
        short.setattr(certificates, "SERVER_DAYS", 30)
        certificates.make_server_certificate(hub.authority, hub.server, host=hub.settings.host)
    before = hub.server[1].read_bytes()
    with caplog.at_level(logging.WARNING), serving(hub, grace_s=0):
        pass
    assert "server.crt ends in 30 days" in caplog.text
    assert hub.server[1].read_bytes() == before
    renewed(caplog.text)
    assert certificates.days_left(hub.server, host="localhost") > 700
    caplog.clear()
    check_certificate(hub)
    assert caplog.text == ""


def test_another_host_s_certificate_is_no_good_one(hub: HubFolder) -> None:
    assert certificates.days_left(hub.server, host="localhost") == pytest.approx(730, abs=1)
    assert certificates.days_left(hub.server, host="hub.example.org") == 0
