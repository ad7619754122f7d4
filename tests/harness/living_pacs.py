"""A real PACS for tests: Orthanc on free loopback ports, with dcmtk as a foreign client beside it."""

import json
import os
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from harness.made_certificates import MadeCertificate
from pydicom import dcmread
from pydicom.dataset import Dataset

from willis.client.pacs.settings import PacsSettings
from willis.shared.processes import Program, end_family, free_port, launch

ORTHANC = Path("/usr/sbin/Orthanc")
DCMTK = Path("/usr/bin")  # by full path: pynetdicom installs scripts of the same names
_DICOMWEB = (
    Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so"),
    Path("/usr/lib/orthanc/plugins/libOrthancDicomWeb.so"),
)
_PATIENCE_S = 60.0
CALLERS = ({"ae_title": "SENDER", "host": "127.0.0.1"}, {"ae_title": "PACS"})


def need(*, orthanc: bool = False) -> None:
    """Skip a test where dcmtk, or Orthanc too, is not installed."""
    if not (DCMTK / "storescu").exists():
        pytest.skip("dcmtk is not installed: apt-get install dcmtk")
    if orthanc and not (ORTHANC.exists() and any(path.exists() for path in _DICOMWEB)):
        pytest.skip("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")


def dcmtk(tool: str, *words: str | Path, timeout_s: float = 60.0) -> subprocess.CompletedProcess[str]:
    """Run one of dcmtk's tools; returns its exit status and what it printed."""
    environment = os.environ | {"DCMDICTPATH": "/usr/share/libdcmtk17/dicom.dic"}
    if not Path(environment["DCMDICTPATH"]).exists():
        del environment["DCMDICTPATH"]
    return subprocess.run(
        [str(DCMTK / tool), *map(str, words)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=timeout_s,
        check=False,
        env=environment,
    )


@dataclass(frozen=True)
class LivingPacs:
    """A running Orthanc."""

    folder: Path
    dicom: int
    web: int
    ae_title: str
    tls: MadeCertificate | None

    @property
    def url(self) -> str:
        """Root of its DICOMweb."""
        return f"http://127.0.0.1:{self.web}/dicom-web"

    def ask(self, place: str, body: Any = None) -> Any:
        """Ask its own REST interface."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"http://127.0.0.1:{self.web}{place}", data=data)
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            return json.loads(answer.read() or b"null")

    def store(self, paths: Sequence[Path]) -> None:
        """Put files into it as they are, whatever their transfer syntax."""
        for path in paths:
            self.ask_raw("/instances", path.read_bytes())

    def ask_raw(self, place: str, data: bytes) -> None:
        """Post bytes to its REST interface."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.web}{place}", data=data)
        with urllib.request.urlopen(request, timeout=_PATIENCE_S) as answer:
            answer.read()

    def log(self) -> str:
        """Return what it printed."""
        path = self.folder / "orthanc.jsonl"
        return path.read_text() if path.exists() else ""


@contextmanager
def living_pacs(
    folder: Path, *, site_port: int, site_title: str = "WILLIS", tls: MadeCertificate | None = None
) -> Iterator[LivingPacs]:
    """Run Orthanc for the block.

    Args:
        folder: Empty; its configuration, its database, its log.
        site_port: Where our listener is: Orthanc knows it as the modality ``site``.
        site_title: How our listener is called.
        tls: Orthanc's certificates; it then speaks mutual TLS alone, both ways.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pacs = LivingPacs(folder, free_port(), free_port(), "PACS", tls)
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(_configuration(pacs, site_port, site_title)))
    program = Program(
        "orthanc",
        (str(ORTHANC), "--verbose", str(configuration)),
        dict(os.environ),
        folder / "orthanc.jsonl",
    )
    process = launch(program)
    try:
        _wait(pacs, process)
        yield pacs
    finally:
        end_family(process)
        shutil.rmtree(folder / "db", ignore_errors=True)


def _configuration(pacs: LivingPacs, site_port: int, site_title: str) -> dict[str, Any]:
    site = {
        "AET": site_title,
        "Host": "127.0.0.1",
        "Port": site_port,
        "UseDicomTls": pacs.tls is not None,
    }
    out: dict[str, Any] = {
        "Name": "test",
        "StorageDirectory": str(pacs.folder / "db"),
        "IndexDirectory": str(pacs.folder / "db"),
        "HttpPort": pacs.web,
        "DicomPort": pacs.dicom,
        "DicomAet": pacs.ae_title,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "DicomAlwaysAllowGet": True,
        "DicomAlwaysAllowFind": True,
        "DicomAlwaysAllowMove": True,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False,
        "DeflatedTransferSyntaxAccepted": True,
        "OverwriteInstances": False,
        "SynchronousCMove": True,
        "DicomModalities": {"site": site},
        "Plugins": [str(path) for path in _DICOMWEB if path.exists()][:1],
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "StudiesMetadata": "Full"},
    }
    if pacs.tls is not None:
        out |= {
            "DicomTlsEnabled": True,
            "DicomTlsCertificate": str(pacs.tls.cert),
            "DicomTlsPrivateKey": str(pacs.tls.key),
            "DicomTlsTrustedCertificates": str(pacs.tls.ca),
        }
    return out


def _wait(pacs: LivingPacs, process: subprocess.Popen[bytes]) -> None:
    until = time.monotonic() + _PATIENCE_S
    while True:
        try:
            pacs.ask("/system")
            return
        except OSError:
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"Orthanc did not start: {pacs.log()[-2000:]}") from None
            time.sleep(0.1)


def held(settings: PacsSettings) -> dict[str, Dataset]:
    """Return what the spool holds, by SOPInstanceUID."""
    return by_uid((settings.spool / "instances").iterdir())


def by_uid(paths: Iterable[Path]) -> dict[str, Dataset]:
    """Return data sets by SOPInstanceUID."""
    read = [dcmread(path) for path in paths]
    return {str(one.SOPInstanceUID): one for one in read}
