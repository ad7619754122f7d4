"""The README's way from a PACS to a release, as written: a real Orthanc, dcmtk, a hub and two sites."""

import gzip
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from harness.living_pacs import LivingPacs, dcmtk, living_pacs, need
from harness.made_dicom import seg, series
from harness.written_lines import ran
from pydicom.uid import PYDICOM_ROOT_UID

from willis.shared.prior.draw import draw_subject
from willis.shared.prior.families import Family
from willis.shared.processes import free_port
from willis.shared.release import read_release
from willis.shared.study import read_study
from willis.simulations.virtual_sites import scanner

pytestmark = [pytest.mark.federation, pytest.mark.pacs, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[3]
STUDY = ROOT / "simulations" / "studies" / "two-hospitals.toml"
PATIENTS, SLICES, SIZE = 82, 8, (72, 72)
PLANTED = "PLANTED"
SECRETS = (PLANTED, "Musterfrau", "Arzt^Anna", "19610203", PYDICOM_ROOT_UID)  # which begins every made UID
PATIENCE_S = 120.0


def test_an_orthanc_full_of_studies_becomes_a_site_that_takes_part(tmp_path):
    need(orthanc=True)
    (law,), from_pacs = blocks("You have a PACS", "toml"), blocks("You have a PACS")[0]
    federation = blocks("You run a federation")[0].splitlines()
    (tmp_path / "simulations").symlink_to(ROOT / "simulations")
    with living_pacs(tmp_path / "pacs", site_port=free_port()) as pacs:
        studies = fill(pacs, tmp_path / "export")
        (tmp_path / "studies.txt").write_text("\n".join(studies))
        with ran(tmp_path, on_free_ports(federation[:3])):
            pass  # a hub and its kits
        with (tmp_path / "kits" / "site-a" / "site.toml").open("a") as law_of_the_site:
            law_of_the_site.write(where(pacs, law))
        rest = [line for line in federation[3:] if not re.match(r"willis site \w+ kits/site-a( |$)", line)]
        with ran(tmp_path, [*from_pacs.splitlines(), *rest]) as told:
            pass
    assert f"{PATIENTS} of {PATIENTS} studies are in the spool, whole" in told
    assert told.count(": 72 x 72 x 8 voxels of ") == PATIENTS
    assert f"{PATIENTS} scans of {PATIENTS} patients in cohort/cohort.csv" in told
    assert f"site-a agrees to two-hospitals ({read_study(STUDY).digest()[:12]}), {PATIENTS} subjects" in told
    release = read_release(tmp_path / "hub" / "runs" / "two-hospitals-1" / "release")
    assert 0 < release.spent.epsilon <= 8
    nobody_is_named(tmp_path)


def blocks(title: str, language: str = "") -> list[str]:
    """Return the fenced blocks of one language in a section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^```(\w*)\n(.*?)^```", section, re.M | re.S)
    return [block for told, block in found if told == language]


def fill(pacs: LivingPacs, export: Path) -> list[str]:
    """Send virtual patients, and their names, to the PACS by dcmtk; return the UIDs of their studies."""
    ranges, studies = scanner(read_study(STUDY), 0), []
    for patient in range(PATIENTS):
        name = f"{PLANTED}{patient:04d}"
        generators = [np.random.default_rng([patient, plane]) for plane in range(SLICES)]
        drawn = [draw_subject(Family.VESSELS, size=SIZE, generator=one, ranges=ranges) for one in generators]
        image, label = (np.stack(planes) for planes in zip(*drawn, strict=True))
        made = series(
            export / name,
            voxels=np.clip(np.rint(image), 0, 65535).astype(np.uint16),
            patient=name,
            description=f"TOF 3D {name}",
            deidentified=False,
            InstitutionName=f"{name} hospital",
        )
        seg(export / name, made, label, deidentified=False)
        studies.append(made.study)
    address = ("-aet", "SENDER", "-aec", pacs.ae_title, "127.0.0.1", str(pacs.dicom))
    sent = dcmtk("storescu", "-xe", "-R", "+sd", "+r", *address, export, timeout_s=300)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert len(pacs.ask("/studies")) == len(set(studies)) == PATIENTS
    assert len(pacs.ask("/instances")) == PATIENTS * (SLICES + 1)
    return studies


def where(pacs: LivingPacs, law: str) -> str:
    """Return the README's lines for ``site.toml`` with this PACS' host and port in place of its own."""
    law, hosts = re.subn(r'^host = ".*"$', 'host = "127.0.0.1"', law, flags=re.M)
    law, ports = re.subn(r"^port = \d+$", f"port = {pacs.dicom}", law, flags=re.M)
    assert (hosts, ports) == (1, 1)
    return law


def on_free_ports(lines: Sequence[str]) -> list[str]:
    """Return the README's lines with ports for the hub that nobody uses."""
    ports = f"--port {free_port()} --inner-port {free_port()}"
    changed = [re.sub(r"--port \d+", ports, line) for line in lines]
    assert sum(before != after for before, after in zip(lines, changed, strict=True)) == 1
    return changed


def nobody_is_named(folder: Path) -> None:
    """Look for patients, and for UIDs, in all that the lines left at hub and sites, in cohort and logs.

    Only the spool may name them, as the PACS does.
    """
    of_the_pacs = [folder / "export", folder / "pacs", folder / "studies.txt"]
    spool = folder / "kits" / "site-a" / "spool"
    seen = {path: bool(secrets_in(path)) for path in (spool / "instances").iterdir()}
    assert len(seen) == PATIENTS * (SLICES + 1)
    assert all(seen.values()), "the look-out is blind"
    others = [
        path
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not any(path.is_relative_to(one) for one in (*of_the_pacs, spool / "instances"))
    ]
    names = {str(path.relative_to(folder)) for path in others}
    assert {"kits/site-a/audit.jsonl", "cohort/cohort.csv", "cohort/intake.html", "hub/state.db"} <= names
    assert any(name.startswith("kits/site-a/logs/") for name in names)
    assert [path for path in names if any(secret.lower() in path.lower() for secret in SECRETS)] == []
    assert {str(path): found for path in others if (found := secrets_in(path))} == {}


def secrets_in(path: Path) -> list[str]:
    """Return the secrets that a file holds, unpacked, in any letters, as text of one or two bytes."""
    data = path.read_bytes()
    small = (gzip.decompress(data) if path.suffix == ".gz" else data).lower()
    forms = {secret: (secret.lower().encode(), secret.lower().encode("utf-16-le")) for secret in SECRETS}
    return [secret for secret, coded in forms.items() if any(one in small for one in coded)]
