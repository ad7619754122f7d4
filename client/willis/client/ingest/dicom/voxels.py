"""Decode a stack's files into one volume in closest canonical RAS.

Geometry and values come from the files themselves. What the index said of the headers is asked again: a file
that changed since, or frames that only the whole file tells of, must not make a wrong volume.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Float64
from nibabel.orientations import apply_orientation, inv_ornt_aff, io_orientation

from willis.client.ingest.dicom.apart import Apart, DecoderLost, is_coded
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import Flaw, arrange
from willis.client.ingest.dicom.planes import Planes, read_planes
from willis.client.ingest.dicom.stacks import Stack
from willis.shared.errors import CohortError

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


class VolumeRefused(CohortError):
    """A stack gives no volume that can be trusted.

    Attributes:
        flaw: Why, in words of ours.
    """

    def __init__(self, name: str, flaw: Flaw) -> None:
        self.flaw = flaw
        super().__init__(f"{name}: {flaw.code}: {flaw.sentence}")


def volume_of(
    stack: Stack,
    paths: Mapping[str, Path],
    *,
    apart: Apart | None = None,
    pseudonyms: Pseudonyms | None = None,
) -> tuple[Float32[np.ndarray, "i j k"], Float64[np.ndarray, "4 4"]]:
    """Read a stack's voxels.

    Guarantees:
        Values are the stored ones times slope plus intercept, each slice with its own. Padding
        (PixelPaddingValue) takes the lowest other value of its volume. Axes i, j, k run nearest to the
        patient's right, front and head; the affine maps them to mm in RAS, from position and cosines alone.

    Args:
        paths: The file of each instance, by ``Instance.file``.
        apart: Where codecs decode; None is this process, which a damaged code stream can end.
        pseudonyms: By which the index names instances: a file that is another's now is refused.

    Raises:
        VolumeRefused: A file cannot be read or decoded, does not fit what the index says of it, or its
            frames are no regular stack. It names the stack and the reason, never a file or a value of text.
    """
    read = []
    for one in stack.instances:
        found = _read(paths[one.file], one, apart=apart, pseudonyms=pseudonyms)
        if isinstance(found, Flaw):
            raise VolumeRefused(stack.name, found)
        read.append(found)
    if len({(planes.kind, planes.values.shape[1:]) for planes in read}) > 1:
        flaw = Flaw("mixed-frames", "its frames are not alike; export each series by itself")
        raise VolumeRefused(stack.name, flaw)
    lattice = arrange([plane for planes in read for plane in planes.places])
    if isinstance(lattice, Flaw):
        raise VolumeRefused(stack.name, lattice)
    values = _filled(read, stack.name)[list(lattice.order)]
    return _canonical(values.transpose(2, 1, 0), _LPS_TO_RAS @ lattice.affine)


def _read(path: Path, one: Instance, *, apart: Apart | None, pseudonyms: Pseudonyms | None) -> Planes | Flaw:
    if apart is None or not is_coded(one.syntax):
        return read_planes(path, one, pseudonyms)
    try:
        return apart(read_planes, path, one, pseudonyms)
    except DecoderLost as lost:
        return Flaw("undecodable", f"pixel data cannot be decoded ({lost}); export the series again")


def _filled(read: list[Planes], name: str) -> Float32[np.ndarray, "slice row column"]:
    """Return all planes, padding filled with the lowest other value."""
    values = np.concatenate([planes.values for planes in read])
    if any(planes.padding is not None for planes in read):
        padding = np.concatenate(
            [planes.values < -np.inf if planes.padding is None else planes.padding for planes in read]
        )
        if padding.all():
            raise VolumeRefused(name, Flaw("all-padding", "every pixel is padding; leave the series out"))
        values[padding] = values[~padding].min()
    if not np.isfinite(values).all():
        flaw = Flaw("not-finite", "pixels times slope are no finite numbers; export it again")
        raise VolumeRefused(name, flaw)
    return values


def _canonical(
    values: Float32[np.ndarray, "i j k"], affine: Float64[np.ndarray, "4 4"]
) -> tuple[Float32[np.ndarray, "i2 j2 k2"], Float64[np.ndarray, "4 4"]]:
    turn = io_orientation(affine)
    turned = np.ascontiguousarray(apply_orientation(values, turn), dtype=np.float32)
    return turned, np.asarray(affine @ inv_ornt_aff(turn, values.shape), dtype=np.float64)
