"""Virtual hospitals: made-up patients in real files, so that the whole path is walked.

Every site has its own scanner, a narrow place in the prior's parameters, partly outside the ranges that the
study's prior draws from: what a site adds to the prior is there to be learned. Its patients are drawn from
it, written as 16-bit PNG (2-D) or NIfTI (3-D), and listed in a ``cohort.csv`` like any hospital's.
"""

import csv
import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from willis.shared.prior.draw import draw_subject
from willis.shared.prior.families import Family, parameters_of
from willis.shared.study import Study

Ranges = Mapping[str, tuple[float, float]]

# What the sites' scanners differ in: centre of the first and of the last site's range, and its half width.
_SCANNERS: Mapping[Family, Mapping[str, tuple[float, float, float]]] = {
    Family.VESSELS: {
        # Black-blood imaging: dark vessels, of which the prior's bright ones know nothing.
        "background": (0.45, 0.6, 0.05),
        "contrast": (-0.3, -0.4, 0.05),
        "noise": (0.015, 0.03, 0.005),
        "radius": (2.2, 3.2, 0.5),
        "contrast_by_radius": (0.1, 0.3, 0.1),
    },
    Family.LESIONS: {
        "background": (0.35, 0.45, 0.04),
        "contrast": (0.35, 0.55, 0.06),
        "noise": (0.02, 0.04, 0.005),
        "radius": (3.0, 6.0, 1.0),
    },
    Family.ORGAN: {
        "background": (0.45, 0.6, 0.04),
        "contrast": (-0.3, -0.2, 0.04),
        "noise": (0.02, 0.04, 0.005),
    },
}
_ROOM = 1.5  # a patient's image is this much larger than a patch, along each axis


def scanner(study: Study, place: float) -> dict[str, tuple[float, float]]:
    """Return the ranges of a virtual site's scanner.

    Args:
        study: Its prior's family says what the label marks.
        place: 0 for the first site, 1 for the last.
    """
    ranges = dict(study.prior.ranges)
    known = parameters_of(study.prior.family)
    for name, (first, last, half) in _SCANNERS[study.prior.family].items():
        centre = first + place * (last - first)
        least, most = known[name].least, known[name].most
        ranges[name] = (max(least, centre - half), min(most, centre + half))
    return ranges


def make_cohort(
    study: Study,
    sites: Sequence[str],
    *,
    folder: Path,
    workers: int = 2,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Path:
    """Write the patients of virtual sites, as many as the study declares, and return their ``cohort.csv``.

    The held-out share comes on top: a site keeps ``subjects`` for training.

    Args:
        study: Its seed makes the same patients again.
        sites: Names of the virtual sites, of the study's.
        folder: Where files go; files already there for the same study are drawn again, not trusted.
        workers: Processes.
        progress: Told the patients done, and of how many.
    """
    folder.mkdir(parents=True, exist_ok=True)
    patients = [
        (site, number, place / max(1, len(sites) - 1))
        for place, site in enumerate(sites)
        for number in range(_with_held_out(study, site))
    ]
    write = partial(_write_patient, study, folder)
    rows = []
    with ProcessPoolExecutor(workers, mp_context=get_context("forkserver")) as pool:
        for row in pool.map(write, patients, chunksize=32):
            rows.append(row)
            progress(len(rows), len(patients))
    path = folder / "cohort.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("subject", "site", "image", "label"))
        writer.writerows(rows)
    return path


def _with_held_out(study: Study, site: str) -> int:
    return round(study.federation.site(site).subjects / (1 - study.use.held_out))


def _write_patient(study: Study, folder: Path, patient: tuple[str, int, float]) -> tuple[str, str, str, str]:
    site, number, place = patient
    name = f"{site}-{number:05d}"
    seed = hashlib.sha256(f"{study.seed}/{name}".encode()).digest()
    image, label = draw_subject(
        study.prior.family,
        size=tuple(int(side * _ROOM) for side in study.patch.size),
        generator=np.random.default_rng(int.from_bytes(seed[:16], "big")),
        ranges=scanner(study, place),
    )
    files = []
    for kind, pixels in (("image", image), ("label", label)):
        suffix = "png" if image.ndim == 2 else "nii.gz"
        file = folder / site / f"{name}_{kind}.{suffix}"
        file.parent.mkdir(exist_ok=True)
        _write(file, pixels)
        files.append(f"{site}/{file.name}")
    return (name, site, files[0], files[1])


def _write(file: Path, pixels: np.ndarray) -> None:
    """Write a label as it is (uint8), an image rounded to what a scanner stores (uint16)."""
    is_label = pixels.dtype == np.uint8
    stored = pixels if is_label else np.clip(np.rint(pixels), 0, 65535).astype(np.uint16)
    if pixels.ndim == 2:
        Image.fromarray(stored).save(file, compress_level=1)
    else:
        nibabel.save(nibabel.Nifti1Image(stored, np.eye(4)), file)
