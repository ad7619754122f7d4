"""A hub that is completed by ``willis hub init`` signs what it made before it had a key."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from harness.serving_trial import add_release, hub_with_release

from willis.server.signing import sign_as_hub, sign_older
from willis.shared.command import willis
from willis.shared.errors import ReleaseError, StateError
from willis.shared.release_signature import SIGNATURE, read_public_key, verify_release


def test_all_but_a_damaged_release_are_signed_and_the_damaged_one_is_named(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path)
    for run in ("tiny-2", "tiny-3"):
        (add_release(hub, run) / SIGNATURE).unlink()
    (hub.runs / "tiny-2" / "release" / "release.json").write_text("{}")
    with pytest.raises(ReleaseError, match=r"left unsigned(.|\n)*tiny-2: .*release\.json"):
        sign_older(hub.runs)
    verify_release(hub.runs / "tiny-3" / "release", read_public_key(hub.release_key[1]))
    assert not (hub.runs / "tiny-2" / "release" / SIGNATURE).exists()


def test_a_hub_of_before_there_were_keys_is_told_what_to_run_and_that_mends_it(tmp_path: Path) -> None:
    hub = hub_with_release(tmp_path)
    release = hub.runs / "tiny-1" / "release"
    for file in (*hub.release_key, release / SIGNATURE):
        file.unlink()
    with pytest.raises(StateError, match=r"run `willis hub init` on it again"):
        sign_as_hub(release.parent)
    ended = CliRunner().invoke(
        willis, ["hub", "init", str(hub.path), "--host", "localhost", "--listen", "127.0.0.1"]
    )
    assert ended.exit_code == 0, ended.output
    assert "Releases that it signed now: tiny-1" in ended.output
    verify_release(release, read_public_key(hub.release_key[1]))
