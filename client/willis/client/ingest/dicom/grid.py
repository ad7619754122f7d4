"""The voxels of a converted image, and where a plane of a mask falls on them: exactly, or not at all."""

from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float64, UInt8

from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused

# Of a voxel: how far the middle of a mask's pixel may lie from that of an image's voxel. As much as slices
# may lie off their regular distance (lattice.STEP_TOLERANCE): a mask has the positions that its image has.
ON_VOXEL = 0.05
MOST_FOREGROUND = 0.5  # of the image's voxels; no vessel, lesion or organ of a head fills more
LEAST_PLANES_OF_A_COMB = 4  # as many planes, all the same two or more slices apart, are no coincidence

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, repr=False)
class Grid:
    """The voxels of one converted image.

    Attributes:
        shape: Voxels along i, j, k.
        affine: From voxel (i, j, k) to mm in RAS, closest canonical.
        frame_of_reference: Keyed digest of FrameOfReferenceUID; empty where the image has none.
        series: Keyed digest of the image's SeriesInstanceUID.
    """

    shape: tuple[int, int, int]
    affine: Float64[np.ndarray, "4 4"] = field(compare=False)
    frame_of_reference: str
    series: str

    def empty(self) -> UInt8[np.ndarray, "i j k"]:
        """Return a label without a marked voxel."""
        return np.zeros(self.shape, np.uint8)


@dataclass(frozen=True, repr=False)
class Plane:
    """Where one frame of a mask lies, in mm of DICOM's patient coordinates (LPS).

    Attributes:
        position: Middle of the first pixel.
        orientation: Direction of growing columns, then of growing rows.
        spacing: Between rows, between columns.
    """

    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing: tuple[float, ...]

    def affine(self) -> Float64[np.ndarray, "4 4"]:
        """Return from (row, column, 0) to mm in RAS."""
        along_row, along_column = np.array(self.orientation[:3]), np.array(self.orientation[3:])
        affine = np.eye(4)
        affine[:3, 0] = along_column * self.spacing[0]
        affine[:3, 1] = along_row * self.spacing[1]
        affine[:3, 2] = np.cross(along_row, along_column)
        affine[:3, 3] = self.position
        return _LPS_TO_RAS @ affine


@dataclass(frozen=True)
class Seat:
    """Where a frame of a mask goes in the image: rows and columns along two axes, in one slice of the third.

    Attributes:
        first: Voxel (i, j, k) of the frame's first pixel.
        row_axis: Axis along which rows grow; columns grow along ``column_axis``.
        row_step: 1 or -1; so is ``column_step``.
        shape: Rows and columns.
    """

    first: tuple[int, int, int]
    row_axis: int
    row_step: int
    column_axis: int
    column_step: int
    shape: tuple[int, int]

    @property
    def slice_axis(self) -> int:
        """The axis that the frame is one slice of."""
        return 3 - self.row_axis - self.column_axis

    def mark(self, label: UInt8[np.ndarray, "i j k"], frame: Bool[np.ndarray, "row column"]) -> None:
        """Set the label to 1 where the frame is true; what is marked already stays."""
        where: list[slice | int] = [0, 0, 0]
        where[self.slice_axis] = self.first[self.slice_axis]
        where[self.row_axis] = _span(self.first[self.row_axis], self.row_step, self.shape[0])
        where[self.column_axis] = _span(self.first[self.column_axis], self.column_step, self.shape[1])
        turned = frame[:: self.row_step, :: self.column_step]
        target = label[tuple(where)]
        target |= (turned if self.row_axis < self.column_axis else turned.T).astype(np.uint8)


def _span(first: int, step: int, count: int) -> slice:
    return slice(first, first + count) if step > 0 else slice(first - count + 1, first + 1)


def seat(plane: Plane, rows: int, columns: int, *, grid: Grid) -> Seat:
    """Find the voxels of an image that a frame's pixels fall on, one on one.

    Guarantees:
        Every pixel's middle lies within :data:`ON_VOXEL` of the middle of its voxel, inside the image, and
        neighbours in the frame are neighbours in the image.

    Raises:
        MaskRefused: ``other-grid``, if a pixel does not.
    """
    with np.errstate(all="ignore"):
        to_voxel = np.linalg.inv(grid.affine) @ plane.affine()
    if not np.isfinite(to_voxel).all():
        raise MaskRefused(MaskFault.OTHER_GRID, "its geometry is not finite")
    steps, first = to_voxel[:3, :2], to_voxel[:3, 3]
    whole_steps, whole_first = np.rint(steps), np.rint(first)
    if not (np.abs(whole_steps).sum(0) == 1).all() or abs(whole_steps).sum(1).max() > 1:
        found = " and ".join(f"{length:.4g}" for length in np.linalg.norm(steps, axis=0))
        raise MaskRefused(
            MaskFault.OTHER_GRID, f"a row and a column of it step by {found} voxels of the image"
        )
    corners = np.array([[r, c] for r in (0, rows - 1) for c in (0, columns - 1)], dtype=np.float64)
    off = np.abs((first - whole_first) + corners @ (steps - whole_steps).T).max()
    if not off <= ON_VOXEL:
        raise MaskRefused(
            MaskFault.OTHER_GRID, f"a pixel lies {off:.4g} voxels off, at most {ON_VOXEL:g} is allowed"
        )
    reached = whole_first + corners @ whole_steps.T
    if not ((reached >= 0).all() and (reached <= np.array(grid.shape) - 1).all()):
        raise MaskRefused(MaskFault.OTHER_GRID, f"it reaches beyond the image's {grid.shape} voxels")
    row_axis, column_axis = (int(np.abs(whole_steps[:, one]).argmax()) for one in (0, 1))
    i, j, k = (int(one) for one in whole_first)
    return Seat(
        first=(i, j, k),
        row_axis=row_axis,
        row_step=int(whole_steps[row_axis, 0]),
        column_axis=column_axis,
        column_step=int(whole_steps[column_axis, 1]),
        shape=(rows, columns),
    )


def refuse_comb(seats: list[Seat]) -> None:
    """Refuse planes that are all the same two or more slices apart: a coarser mask would leave stripes.

    Raises:
        MaskRefused: ``mask-with-gaps``.
    """
    for axis in {one.slice_axis for one in seats}:
        slices = sorted({one.first[axis] for one in seats if one.slice_axis == axis})
        apart = int(np.gcd.reduce(np.diff(slices))) if len(slices) >= LEAST_PLANES_OF_A_COMB else 1
        if apart > 1:
            raise MaskRefused(
                MaskFault.GAPS, f"{len(slices)} planes, each a multiple of {apart} slices apart"
            )


def plausible(label: UInt8[np.ndarray, "i j k"]) -> UInt8[np.ndarray, "i j k"]:
    """Return the label as it is.

    Raises:
        MaskRefused: No voxel is marked, or more than half are.
    """
    marked = int(np.count_nonzero(label))
    if not marked:
        raise MaskRefused(MaskFault.EMPTY)
    if marked > MOST_FOREGROUND * label.size:
        raise MaskRefused(MaskFault.TOO_LARGE, f"{marked} of {label.size} voxels")
    return label
