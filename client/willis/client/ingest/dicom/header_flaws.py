"""What headers alone say against instances, in sentences with numbers and our own words only."""

from collections.abc import Sequence

from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import Flaw
from willis.client.ingest.dicom.parts import APART

MULTI_FRAME = frozenset({"enhanced-mr", "enhanced-ct"})
MOST_VOXELS = 2**29  # 2 GiB as float32

_WHOLE = {
    "no-patient": "no patient is known for it; name its patient in the mapping file",
    "conflicting-births": "its patient has two birth dates or sexes under one PatientID; mend it there",
    "two-patients": "one series holds images of two patients; mend the export at the source",
}


def whole_flaw(code: str) -> Flaw:
    """Return the flaw of a whole patient or series."""
    return Flaw(code, _WHOLE[code])


def header_flaw(part: Sequence[Instance]) -> Flaw | None:
    """Return what forbids to arrange classic instances."""
    first = part[0]
    if any(None in (one.position, one.orientation, one.spacing) for one in part):
        n = sum(None in (one.position, one.orientation, one.spacing) for one in part)
        return Flaw(
            "no-geometry", f"{n} of {len(part)} instances lack position, orientation or pixel spacing"
        )
    if any(one.frames != 1 for one in part):
        return Flaw("frames-without-place", "a classic instance of several frames says the place of only one")
    return _grid_flaw(first, len(part)) or _frames_of_reference_flaw(part)


def _grid_flaw(first: Instance, n: int) -> Flaw | None:
    if first.rows < 2 or first.columns < 2 or n < 1:
        return Flaw("no-grid", f"{first.rows} rows and {first.columns} columns are no image; export it again")
    if first.rows * first.columns * n > MOST_VOXELS:
        text = f"{first.rows} x {first.columns} x {n} voxels are more than {MOST_VOXELS}"
        return Flaw("too-large", f"{text}; leave the series out")
    return None


def _frames_of_reference_flaw(part: Sequence[Instance]) -> Flaw | None:
    n = len({one.frame_of_reference for one in part})
    if n == 1:
        return None
    return Flaw(
        "two-frames-of-reference", f"{n} frames of reference in one series; its places cannot be compared"
    )


def multi_frame_flaw(part: Sequence[Instance], *, least: int) -> Flaw | None:
    """Return what forbids to take multi-frame instances of one kind as one volume each."""
    if len(part) > 1:
        text = f"{len(part)} multi-frame files of one kind in one series (a concatenation?)"
        return Flaw("several-multi-frame", f"{text}; export the series as one file")
    first = part[0]
    return _grid_flaw(first, first.frames) or (few(first.frames, least) if first.frames < least else None)


def few(n: int, least: int) -> Flaw:
    """Return the flaw of too few slices."""
    return Flaw(
        "too-few-slices", f"{n} slices, at least {least} are needed; leave it out or lower least_slices"
    )


def apart(one: Instance) -> Flaw:
    """Return why an instance that was set apart is no image."""
    page = sorted(APART & set(one.faults))
    if not page:
        return Flaw("no-image", f"a {one.kind} is no image of MR or CT")
    return told(page[0])


_TOLD = {
    "lossy": "its pixels were compressed with loss; export them lossless",
    "burned-in": "text is burned into its pixels; it is never scrubbed, export it without",
    "overlay": "it carries overlays, which may hold text; export it without",
    "localizer": "a localizer is no volume",
    "projection": "a projection (MIP) is no acquired volume",
    "secondary-capture": "a screen capture or derived page is no acquired volume",
    "photometric": "its pixels are no grey values; export the series in grey",
    "truncated": "a file of it ends before its pixels do; export the series again",
    "no-pixels": "a file of it holds no pixels; export the series again",
    "syntax": "its transfer syntax is none that intake knows; export it as explicit little endian",
    "no-patient": _WHOLE["no-patient"],
    "no-geometry": "it lacks position, orientation or pixel spacing; export it with its geometry",
}


def told(code: str) -> Flaw:
    """Return the sentence to a fault of a header."""
    if code.startswith("identity-"):
        return Flaw(
            code, "its header is not de-identified; de-identify it first, or agree on deid = 'site-local'"
        )
    if code.startswith("no-number-"):
        return Flaw(
            code, f"{code.removeprefix('no-number-')} is no number that fits; export the series again"
        )
    return Flaw(code, _TOLD.get(code, "its header does not fit; export it again"))
