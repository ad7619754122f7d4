"""Small scans, tables that name them, and what the intake says of them."""

from pathlib import Path

import numpy as np
from click.testing import CliRunner
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from willis.client.cli import cohort as cohort_command
from willis.client.ingest.check import Fault, check_cohort
from willis.client.ingest.table import read_table

GRADIENT = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
MASK = (GRADIENT > 20).astype(np.uint8)


def nifti(path: Path, values: np.ndarray, affine: np.ndarray | None = None) -> Path:
    Nifti1Image(values, np.eye(4) if affine is None else affine).to_filename(path)
    return path


def png(path: Path, values: np.ndarray) -> Path:
    Image.fromarray(values).save(path)
    return path


def table(folder: Path, *rows: str, header: str = "subject,site,image,label") -> Path:
    path = folder / "cohort.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return path


def faults(path: Path) -> list[set[Fault]]:
    intake = check_cohort(path)
    assert len(intake.accepted) + len(intake.refused) == len(intake.rows) == len(read_table(path).rows)
    return [{reason.fault for reason in checked.reasons} for checked in intake.rows]


def run_check(*arguments: str):
    return CliRunner().invoke(cohort_command, ["check", *arguments])
