"""Cut labelled patches from a subject's scans.

1) Load every scan of the subject, choose channels, resample; 2) normalise by the subject's own percentiles;
3) draw centres; 4) cut. Nothing is shared between subjects: a patch depends on one patient alone.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8
from scipy.ndimage import affine_transform

from willis.client.cohort import Scan, Subject
from willis.client.ingest.volume import Volume, open_volume
from willis.shared.errors import CohortError
from willis.shared.patch import Channel, PatchSpec

SLICE_AXES = {"sagittal": 0, "coronal": 1, "axial": 2}
COLOURS = {Channel.RED: 0, Channel.GREEN: 1, Channel.BLUE: 2}
SEQUENCES = {Channel.FIRST: 0, Channel.SECOND: 1, Channel.THIRD: 2, Channel.FOURTH: 3}


@dataclass(frozen=True)
class LoadedScan:
    """A scan in memory, on the grid of the spec.

    Attributes:
        image: Intensities as stored, or in [-1, 1] once normalised; None where only a mask exists.
        label: 1 where the file's label is above 0, else 0.
        spacing_mm: Voxel size in mm along each axis; pixels for a picture.
        affine: From voxel (i, j, k) to mm in RAS; k is 0 for a plane.
        slice_axis: Axis that 2-D patches lie perpendicular to; None where the patch has the scan's axes.
    """

    image: Float32[np.ndarray, " channel *space"] | None
    label: UInt8[np.ndarray, "*space"]
    spacing_mm: tuple[float, ...]
    affine: Float64[np.ndarray, "4 4"]
    slice_axis: int | None

    def pixels(self) -> Float32[np.ndarray, " channel *space"]:
        """Return the image.

        Raises:
            CohortError: There is a mask only.
        """
        if self.image is None:
            raise CohortError(
                "a scan has a mask only; patches hold an image channel, so give every row an image"
            )
        return self.image


def load_scan(scan: Scan, spec: PatchSpec) -> LoadedScan:
    """Read one scan that passed the intake, and bring it to the spec's channels and spacing.

    Resampling is linear for the image, nearest for the label, and keeps the outer edge of the first voxel;
    there is no smoothing before a coarser grid. 2-D patches from a volume: only in-plane.

    Raises:
        CohortError: A file cannot be read, image and label differ in shape, the channels asked for are not
            there, 3-D patches are asked of a plane, or a spacing in mm of a picture.
    """
    grid = open_volume(scan.label)
    label = (grid.label() > 0.5).astype(np.uint8)
    image = None if scan.image is None else _channels(open_volume(scan.image), spec)
    if image is not None and image.shape[1:] != label.shape:
        raise CohortError(
            f"{scan.label.name} has shape {label.shape}, its image {image.shape[1:]}; check the cohort"
        )
    if spec.dimensions > label.ndim:
        raise CohortError(f"{scan.label.name} is a plane; 3-D patches (patch.size {spec.size}) need volumes")
    slice_axis = SLICE_AXES[spec.axis] if spec.dimensions < label.ndim else None
    loaded = LoadedScan(image, label, grid.spacing_mm, grid.affine, slice_axis)
    return loaded if spec.spacing_mm is None else _resample(loaded, _wanted_spacing(grid, spec, slice_axis))


def normalise_subject(scans: Sequence[LoadedScan], spec: PatchSpec) -> tuple[LoadedScan, ...]:
    """Map the subject's own percentiles, over all pixels of all its scans, to -1 and 1; clip, then invert.

    Every channel has its own percentiles.

    Raises:
        CohortError: A scan has no image, or a channel's two percentiles are equal or not finite.
    """
    images = [scan.image for scan in scans if scan.image is not None]
    if not images or len(images) < len(scans):
        raise CohortError(
            f"{len(scans) - len(images)} of a subject's {len(scans)} scans have a mask only; patches hold an "
            "image channel, so give every row an image"
        )
    sign = -1.0 if spec.invert else 1.0
    limits = [_limits([image[index] for image in images], spec) for index in range(len(spec.channels))]
    low, width = np.array(limits, dtype=np.float32).T
    normalised = []
    for scan, image in zip(scans, images, strict=True):
        shape = (-1, *(1,) * (image.ndim - 1))
        scaled = 2 * ((image - low.reshape(shape)) / width.reshape(shape)) - 1
        normalised.append(replace(scan, image=(sign * np.clip(scaled, -1, 1)).astype(np.float32)))
    return tuple(normalised)


def load_subject(subject: Subject, spec: PatchSpec) -> tuple[LoadedScan, ...]:
    """Load and normalise all scans of one subject; see :func:`load_scan`, :func:`normalise_subject`."""
    return normalise_subject([load_scan(scan, spec) for scan in subject.scans], spec)


def cut_patches(
    scans: Sequence[LoadedScan], spec: PatchSpec, rng: np.random.Generator
) -> Float32[np.ndarray, "patch channel *space"]:
    """Cut ``spec.per_subject`` patches from one subject's normalised scans.

    ``spec.foreground_share`` of them (rounded half up) come first and are centred on a foreground pixel; the
    others on a pixel that is not empty background, that is, not at the darkest value of the file in every
    channel. All pixels of all scans are equally likely, and none is drawn twice while there are enough.
    A patch is moved inside the scan where it would pass its edge; a scan smaller than the patch lies in
    its middle, padded with empty background: image -1 (1 under ``spec.invert``), label -1.

    Edge cases:
        No foreground left (after resampling): every patch is cut as the others are.
        A scan without an image raises ``CohortError`` in :func:`normalise_subject`.

    Args:
        scans: One subject's, from :func:`load_subject`.
        spec: As for loading.
        rng: Draws the centres.

    Returns:
        Image channels in [-1, 1], then the label, -1 or 1.
    """
    empty = 1.0 if spec.invert else -1.0
    foreground = [np.flatnonzero(scan.label) for scan in scans]
    tissue = [np.flatnonzero(np.any(scan.pixels() != empty, axis=0)) for scan in scans]
    has_foreground = any(len(pixels) for pixels in foreground)
    n_foreground = math.floor(spec.per_subject * spec.foreground_share + 0.5) if has_foreground else 0
    centres = _draw(foreground, n_foreground, rng) + _draw(tissue, spec.per_subject - n_foreground, rng)
    patches = np.full((spec.per_subject, spec.n_channels, *spec.size), empty, dtype=np.float32)
    patches[:, -1] = -1
    for patch, (index, flat) in zip(patches, centres, strict=True):
        _cut(scans[index], flat, spec.size, into=patch)
    return patches


def _channels(volume: Volume, spec: PatchSpec) -> Float32[np.ndarray, " channel *space"]:
    pixels = volume.pixels()
    choose = _sequence if volume.in_mm else _colour
    return np.stack([choose(pixels, channel, volume.path.name) for channel in spec.channels])


def _sequence(
    pixels: Float32[np.ndarray, " channel *space"], channel: Channel, name: str
) -> Float32[np.ndarray, "*space"]:
    """Return a volume's only channel by any name for one, or one of its sequences by its place."""
    alone = len(pixels) == 1 and channel in (Channel.INTENSITY, Channel.GREY)
    place = 0 if alone else SEQUENCES.get(channel)
    if place is None or place >= len(pixels):
        there = [one.value for one in SEQUENCES][: len(pixels)]
        raise CohortError(
            f"{name} has {len(pixels)} sequence{'s' * (len(pixels) > 1)}; patch.channels must name some of "
            f"{', '.join(there)}{' (or intensity)' * (len(pixels) == 1)}, got {channel.value}"
        )
    return pixels[place]


def _colour(
    pixels: Float32[np.ndarray, " channel *space"], channel: Channel, name: str
) -> Float32[np.ndarray, "*space"]:
    if channel in SEQUENCES:
        raise CohortError(
            f"{name} is a picture, and {channel.value} a volume's sequence; patch.channels must name "
            "intensity, red, green, blue or grey"
        )
    if channel is Channel.GREY:
        return pixels.mean(axis=0, dtype=np.float32)
    if channel is Channel.INTENSITY:
        if any(not np.array_equal(pixels[0], other, equal_nan=True) for other in pixels[1:]):
            raise CohortError(f"{name} has colours; patch.channels must name red, green, blue or grey")
        return pixels[0]
    if len(pixels) != len(COLOURS):
        raise CohortError(
            f'{name} has one channel; patch.channels must be ["intensity"], got {channel.value}'
        )
    return pixels[COLOURS[channel]]


def _wanted_spacing(grid: Volume, spec: PatchSpec, slice_axis: int | None) -> tuple[float, ...]:
    """Return the spec's spacing with one number an axis of the grid."""
    assert spec.spacing_mm is not None
    if not grid.in_mm and any(step != 1.0 for step in spec.spacing_mm):
        raise CohortError(
            f"{grid.path.name} is a picture of unknown spacing; leave patch.spacing_mm "
            f"out, got {spec.spacing_mm}"
        )
    wanted = list(spec.spacing_mm)
    if slice_axis is not None:
        wanted.insert(slice_axis, grid.spacing_mm[slice_axis])
    return tuple(wanted)


def _resample(scan: LoadedScan, spacing_mm: tuple[float, ...]) -> LoadedScan:
    """Voxel o of the new grid has its centre at (o + 1/2) step - 1/2 of the old, step = new / old spacing."""
    step = np.array(spacing_mm) / np.array(scan.spacing_mm)
    if np.allclose(step, 1.0, rtol=0, atol=1e-4):
        return scan
    offset = (step - 1) / 2
    shape = tuple(
        max(1, math.floor(side / by + 0.5)) for side, by in zip(scan.label.shape, step, strict=True)
    )
    geometry: dict[str, Any] = {"matrix": step, "offset": offset, "output_shape": shape, "mode": "nearest"}
    label = affine_transform(scan.label, order=0, **geometry)
    image = scan.image
    if image is not None:
        image = np.stack([affine_transform(plane, order=1, **geometry) for plane in image])
    moved = np.eye(4)
    moved[range(len(step)), range(len(step))] = step
    moved[: len(step), 3] = offset
    return LoadedScan(image, label, spacing_mm, scan.affine @ moved, scan.slice_axis)


def _limits(planes: Sequence[Float32[np.ndarray, "*space"]], spec: PatchSpec) -> tuple[float, float]:
    """Return the low percentile of a channel, and how far the high one lies above it."""
    values = np.concatenate([plane.ravel() for plane in planes])
    with np.errstate(invalid="ignore"):  # infinities end in the refusal below
        low, high = (float(limit) for limit in np.percentile(values, spec.percentiles))
    if not (high - low > np.finfo(np.float32).tiny and high - low < np.finfo(np.float32).max):
        raise CohortError(
            f"percentiles {spec.percentiles} of a subject's image are {low:g} and {high:g}; it is "
            "constant, not finite, or nearly all one value: refuse its rows, or widen patch.percentiles"
        )
    return low, high - low


def _draw(candidates: Sequence[np.ndarray], count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Draw pixels, as (scan, flat index), evenly over all candidates of all scans."""
    if count == 0:
        return []
    ends = np.cumsum([len(pixels) for pixels in candidates])
    picks = rng.choice(int(ends[-1]), size=count, replace=bool(ends[-1] < count))
    scans = np.searchsorted(ends, picks, side="right")
    starts = ends - [len(pixels) for pixels in candidates]
    return [
        (int(scan), int(candidates[scan][pick - starts[scan]]))
        for scan, pick in zip(scans, picks, strict=True)
    ]


def _cut(
    scan: LoadedScan, flat: int, size: tuple[int, ...], *, into: Float32[np.ndarray, " channel *space"]
) -> None:
    """Copy the patch around one pixel into its place; what the scan does not cover stays as it is."""
    image, label = scan.pixels(), scan.label
    centre = [int(step) for step in np.unravel_index(flat, label.shape)]
    if scan.slice_axis is not None:
        across = centre.pop(scan.slice_axis)
        image, label = np.take(image, across, scan.slice_axis + 1), np.take(label, across, scan.slice_axis)
    spans = [_span(at, side, wanted) for at, side, wanted in zip(centre, label.shape, size, strict=True)]
    source, target = tuple(span[0] for span in spans), tuple(span[1] for span in spans)
    into[(slice(0, -1), *target)] = image[(slice(None), *source)]
    into[(-1, *target)] = 2.0 * label[source] - 1.0


def _span(centre: int, side: int, wanted: int) -> tuple[slice, slice]:
    """Return the pixels to copy along one axis of the scan, and where they go in the patch."""
    if side <= wanted:
        start = (wanted - side) // 2
        return slice(0, side), slice(start, start + side)
    start = min(max(centre - wanted // 2, 0), side - wanted)
    return slice(start, start + wanted), slice(0, wanted)
