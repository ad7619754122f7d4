"""A startup kit: all that a site needs, and no private key."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from willis.client.site import read_site
from willis.server.hub.command import hub as command
from willis.server.hub.folder import HubFolder
from willis.server.hub.kit import fingerprint, write_kit
from willis.shared.errors import StateError


def test_the_kits_law_can_be_read_by_the_site(hub: HubFolder, tmp_path: Path) -> None:
    settings = read_site(write_kit(hub, "site-a", out=tmp_path / "kits") / "site.toml")
    assert settings.name == "site-a"
    assert settings.studies == ()  # nothing is agreed to before the hospital agrees
    assert settings.shared_noise is False
    assert settings.hub is not None
    assert settings.hub.address == f"localhost:{hub.settings.port}"
    assert settings.hub.ca.read_bytes() == hub.authority[1].read_bytes()


def test_every_key_of_the_law_is_explained_in_the_kit(hub: HubFolder, tmp_path: Path) -> None:
    from willis.client.site import SiteSettings

    text = (write_kit(hub, "site-a", out=tmp_path) / "site.toml").read_text()
    keys = set(SiteSettings.model_fields) - {"ledger_file"}  # cohorts that share patients: the advanced case
    assert [
        key for key in sorted(keys) if not any(f"{mark}{key}" in text for mark in ("\n", "# ", "["))
    ] == []


def test_the_kits_lines_on_dicom_hold_and_lack_no_key(hub: HubFolder, tmp_path: Path) -> None:
    path = write_kit(hub, "site-a", out=tmp_path) / "site.toml"
    law, mark, dicom = path.read_text().partition("# Which series of a DICOM export")
    assert read_site(path).pacs is read_site(path).intake is None
    switched_on = re.sub(r"^# (\[[a-z.]+\]$|(?!pattern)[a-z_]+ = )", r"\1", dicom, flags=re.MULTILINE)
    path.write_text(law + mark + switched_on)
    settings = read_site(path)
    assert settings.pacs is not None
    assert settings.intake is not None
    told = {"intake": settings.intake, "pacs": settings.pacs}
    told |= {"intake.image": settings.intake.image, "intake.label": settings.intake.label}
    told |= {"pacs.source": settings.pacs.source, "pacs.web": settings.pacs.web}
    for table, values in told.items():
        assert values is not None
        section = dicom.partition(f"# [{table}]\n")[2].partition("\n# [")[0]
        keys = {name for name in type(values).model_fields if f"{table}.{name}" not in told}
        assert [key for key in sorted(keys) if f"# {key} = " not in section] == (
            ["tls"] if table in ("pacs.source", "pacs.web") else []
        )


def test_no_private_key_is_in_a_kit(hub: HubFolder, tmp_path: Path) -> None:
    folder = write_kit(hub, "site-a", out=tmp_path / "kits")
    files = sorted(path.name for path in folder.iterdir())
    assert files == ["README.txt", "ca.crt", "compose.yaml", "site.toml", "willis-site.service"]
    secrets = [hub.authority[0].read_bytes(), hub.server[0].read_bytes(), hub.secret.read_bytes()]
    for path in folder.iterdir():
        assert b"PRIVATE" not in path.read_bytes()
        assert not any(secret in path.read_bytes() for secret in secrets)


def test_the_readme_tells_the_fingerprint_to_compare(hub: HubFolder, tmp_path: Path) -> None:
    folder = write_kit(hub, "site-a", out=tmp_path)
    assert fingerprint(hub.authority[1].read_bytes()) in (folder / "README.txt").read_text()


def test_a_kit_in_use_is_not_overwritten(hub: HubFolder, tmp_path: Path) -> None:
    folder = write_kit(hub, "site-a", out=tmp_path)
    (folder / "node.key").write_text("the site's own")
    with pytest.raises(StateError, match="not empty"):
        write_kit(hub, "site-a", out=tmp_path)


@pytest.mark.parametrize("name", ["../site", "Site", "", 'a"b', "a" * 64, "a\n"])
def test_a_name_that_a_study_could_not_use_is_refused(hub: HubFolder, tmp_path: Path, name: str) -> None:
    out = tmp_path / "kits"
    ended = CliRunner().invoke(command, ["kit", str(hub.path), "good", name, "--out", str(out)])
    assert isinstance(ended.exception, StateError)
    assert not out.exists()
