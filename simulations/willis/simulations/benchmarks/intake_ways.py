"""The ways through one export, each in a process of its own so that its memory is its own.

Run as ``python -m willis.simulations.benchmarks.intake_ways WAY EXPORT INDEX``; prints the seconds it took.
"""

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

_EVERY_S = 0.02  # between two looks at memory
_KEY = b"a key of a measurement, 32 bytes"
SCANS = {"Willis, 1 process": 1, "Willis, 2 processes": 2}
AGAIN = "Willis, nothing new"
PYDICOM = "pydicom, plain loop"
DCM2NIIX = "dcm2niix -n -1"


@dataclass(frozen=True)
class Walked:
    """One way through an export.

    Attributes:
        seconds: Of the reading, without the start of Python; of the whole process for dcm2niix.
        memory: The most bytes that its first process had in memory.
        worker_memory: The most that any process under it had.
    """

    seconds: float
    memory: int
    worker_memory: int


def walk(way: str, export: Path, index: Path) -> Walked:
    """Go through an export one way.

    Args:
        way: A key of :data:`SCANS`, :data:`AGAIN`, :data:`PYDICOM` or :data:`DCM2NIIX`.
        export: A folder.
        index: Of a scan; made by it, or there already for :data:`AGAIN`.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    begun = time.perf_counter()
    foreign = way == DCM2NIIX
    command = _dcm2niix(export) if foreign else _python(way, export, index)
    answer = subprocess.DEVNULL if foreign else subprocess.PIPE
    with subprocess.Popen(command, stdout=answer, stderr=subprocess.DEVNULL, text=True) as process:
        own, below = 0, 0
        while process.poll() is None:
            own = max(own, _most(process.pid))
            below = max([below, *map(_most, _children(process.pid))])
            time.sleep(_EVERY_S)
        seconds = time.perf_counter() - begun
        told = "" if process.stdout is None else process.stdout.read()
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Walked(seconds if foreign else float(json.loads(told)), own, below)


def _python(way: str, export: Path, index: Path) -> list[str]:
    return [sys.executable, "-m", __name__, way, str(export), str(index)]


def _dcm2niix(export: Path) -> list[str]:
    """Read every header, list the series, convert none: series -1 is asked for, and there is none."""
    from dcm2niix import bin as program

    return [program, "-n", "-1", "-d", "9", "-f", "%j", "-o", str(export.parent), str(export)]


def _most(process: int) -> int:
    """Return the most bytes that a process has had in memory; 0 where it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="ascii", errors="replace").splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), 0)


def _children(process: int) -> list[int]:
    try:
        told = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(one) for one in told.split()]


def _by_willis(export: Path, index: Path, workers: int) -> float:
    from willis.client.ingest.dicom.identity import Pseudonyms
    from willis.client.ingest.dicom.scan import scan

    begun = time.perf_counter()
    scan(export, index, pseudonyms=Pseudonyms(_KEY), patterns=("tof",), workers=workers).close()
    return time.perf_counter() - begun


def _by_pydicom(export: Path) -> float:
    from pydicom import dcmread

    begun = time.perf_counter()
    for path in export.rglob("*"):
        if path.is_file():
            dcmread(path, stop_before_pixels=True)
    return time.perf_counter() - begun


def _main(way: str, export: Path, index: Path) -> None:
    seconds = _by_pydicom(export) if way == PYDICOM else _by_willis(export, index, SCANS.get(way, 1))
    print(json.dumps(seconds))


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
