"""One offline page about an intake, which stays at the site: counts, refusals, voxel sizes, middle slices."""

import base64
import io
import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

import jinja2
import numpy as np
from jaxtyping import Float, UInt8
from nibabel.nifti1 import Nifti1Image
from PIL import Image

from willis.client.ingest.dicom.choice import Verdict
from willis.client.ingest.dicom.cohort_folder import CohortFolder, KeptScan, file_of
from willis.shared.whole_file import write_whole

PAGE, FACTS = "intake.html", "intake.json"
_MOST_PICTURES = 60
_SIDE = 160  # screen pixels
_MARK = np.array([255.0, 115.0, 51.0])
_SEEN = 0.45  # how much of the mark's colour lies over the image


@dataclass(frozen=True)
class IntakeResult:
    """What an intake found, and what became of it. No name, UID, date, path or free text is in it.

    Attributes:
        files: Of the export, read or not.
        left: Files that are no instance, by reason.
        duplicates: Equal copies that were dropped.
        verdicts: One for every series, in the order of their names.
        scans: What is in the cohort.
        anew: How many of these were made now; the others were there.
    """

    files: int
    left: dict[str, int]
    duplicates: int
    verdicts: tuple[Verdict, ...]
    scans: tuple[KeptScan, ...]
    anew: int

    @property
    def subjects(self) -> int:
        """Patients in the cohort."""
        return len({scan.subject for scan in self.scans})

    @property
    def refusals(self) -> dict[str, int]:
        """How many series were refused, by reason, the most frequent first."""
        return dict(Counter(one.code for one in self.verdicts if one.refused).most_common())

    def facts(self) -> dict[str, object]:
        """Return all of it as plain values."""
        return {
            "files": self.files,
            "left": self.left,
            "duplicates": self.duplicates,
            "subjects": self.subjects,
            "scans": len(self.scans),
            "made_anew": self.anew,
            "refusals": self.refusals,
            "series": [asdict(one) for one in self.verdicts],
            "spacing_mm": sorted({tuple(round(mm, 3) for mm in scan.spacing_mm) for scan in self.scans}),
        }


def write_report(result: IntakeResult, cohort: CohortFolder) -> Path:
    """Write ``intake.json`` and ``intake.html`` beside the cohort's table; return the page.

    Raises:
        StateError: They cannot be written.
    """
    write_whole(cohort.out / FACTS, json.dumps(result.facts(), indent=1).encode(), private=True)
    pages = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = result.scans[:: -(-len(result.scans) // _MOST_PICTURES) or 1]
    page = pages.get_template("intake.html.jinja").render(
        result=result,
        sizes=_sizes(result.scans),
        pictures=[(scan, _picture(cohort.out, scan)) for scan in shown],
        sentences={one.code: one.sentence for one in result.verdicts if one.refused},
    )
    write_whole(cohort.out / PAGE, page.encode(), private=True)
    return cohort.out / PAGE


def _sizes(scans: tuple[KeptScan, ...]) -> list[tuple[str, str, int]]:
    """Return voxel size, shape and how many scans have both, the most frequent first."""
    found = Counter(
        (" x ".join(f"{mm:.2f}" for mm in scan.spacing_mm), " x ".join(map(str, scan.shape)))
        for scan in scans
    )
    return [(*key, n) for key, n in found.most_common()]


def _picture(out: Path, scan: KeptScan) -> str:
    """Return the middle slice of what is marked, with the mark over it, as a data URI of PNG."""
    label = _voxels(out / "labels" / file_of(scan.name)).astype(np.uint8)
    image = _voxels(out / "images" / file_of(scan.name)) if scan.image else np.zeros(label.shape, np.float32)
    marked = np.flatnonzero(label.any((0, 1)))
    k = int(marked[len(marked) // 2]) if len(marked) else label.shape[2] // 2
    data = io.BytesIO()
    plane = Image.fromarray(overlaid(image[:, :, k], label[:, :, k]))
    plane.resize(_screen(label.shape, scan.spacing_mm)).save(data, "PNG")
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"


def _screen(shape: tuple[int, ...], spacing_mm: tuple[float, ...]) -> tuple[int, int]:
    """Return width and height on the screen of a plane as it is in mm."""
    width, height = shape[0] * spacing_mm[0], shape[1] * spacing_mm[1]
    scale = _SIDE / max(width, height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def overlaid(
    image: Float[np.ndarray, "i j"], label: UInt8[np.ndarray, "i j"]
) -> UInt8[np.ndarray, "row column 3"]:
    """Return a plane as seen from the feet, front above, the patient's right on the left, with its label."""
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(high - low, 1e-6), 0, 1)[..., None] * np.full(3, 255.0)
    colour = np.where(label[..., None] > 0, (1 - _SEEN) * grey + _SEEN * _MARK, grey)
    return np.ascontiguousarray(np.flip(colour.transpose(1, 0, 2), (0, 1))).astype(np.uint8)


def _voxels(path: Path) -> Float[np.ndarray, "i j k"]:
    return np.asarray(Nifti1Image.from_filename(path).dataobj, np.float32)
