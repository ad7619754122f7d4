"""Where an image's label is, by the site's rule: among the export's segmentations, or NIfTI beside it."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import ParamSpec, TypeVar

import numpy as np
from jaxtyping import Float64, UInt8

from willis.client.ingest.dicom.apart import Apart, DecoderLost, is_coded
from willis.client.ingest.dicom.header_file import UnfitFileError, open_header
from willis.client.ingest.dicom.header_text import text_of
from willis.client.ingest.dicom.identity import Pseudonyms
from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.labels import (
    Grid,
    MaskFault,
    MaskRefused,
    check_pattern,
    label_from_nifti,
    label_of,
    nifti_beside,
)
from willis.client.ingest.dicom.rule import LabelRule
from willis.client.ingest.dicom.seg_alone import seg_alone
from willis.client.ingest.dicom.stacks import Stack
from willis.shared.errors import CohortError

P = ParamSpec("P")
T = TypeVar("T")
_ASKED = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")


class LabelSearch:
    """Finds labels.

    Args:
        rule: The site's.
        export: The folder that a pattern is relative to.
        pseudonyms: By which segmentations and images know each other.
        apart: Where codecs decode.
    """

    def __init__(self, rule: LabelRule, export: Path, pseudonyms: Pseudonyms, apart: Apart) -> None:
        if rule.pattern is not None:
            check_pattern(rule.pattern)
        self._rule, self._export, self.pseudonyms, self._apart = rule, export, pseudonyms, apart
        self._shared: frozenset[Path] = frozenset()

    def expect(self, images: Iterable[Stack], paths: Mapping[str, Path]) -> None:
        """Look at all images before the first is made: a NIfTI mask that is several images' is none's."""
        found: Counter[Path] = Counter()
        for image in images:
            with suppress(CohortError):  # told where the image is made
                found.update(self.beside(image, paths))
        self._shared = frozenset(path for path, n in found.items() if n > 1)

    def label(
        self, image: Stack, masks: Sequence[Instance], grid: Grid, paths: Mapping[str, Path]
    ) -> UInt8[np.ndarray, "i j k"]:
        """Return the label of an image, 0 and 1 on its voxels.

        Args:
            masks: The segmentations that may be of the image.
            paths: The file of each instance, by ``Instance.file``.

        Raises:
            MaskRefused: There is none that fits, or more than one.
        """
        if self._rule.source == "nifti":
            (beside,) = self.beside(image, paths)
            return label_from_nifti(beside, grid)
        _refuse_named(masks)
        found = self._decoded(
            masks,
            label_of,
            [paths[one.file] for one in masks],
            grid,
            segments=self._rule.segments,
            pseudonyms=self.pseudonyms,
            several=self._rule.several,
        )
        return found.voxels

    def alone(
        self, mask: Instance, paths: Mapping[str, Path]
    ) -> tuple[UInt8[np.ndarray, "i j k"], Float64[np.ndarray, "4 4"]]:
        """Return a mask that stands alone, and its affine.

        Raises:
            MaskRefused: It is not fit.
        """
        _refuse_named([mask])
        rule, path = self._rule, paths[mask.file]
        return self._decoded([mask], seg_alone, path, segments=rule.segments, pseudonyms=self.pseudonyms)

    def _decoded(
        self, masks: Sequence[Instance], function: Callable[P, T], *args: P.args, **rest: P.kwargs
    ) -> T:
        """Call a function that decodes these masks, in a process of its own where a codec does."""
        if not any(is_coded(one.syntax) for one in masks):
            return function(*args, **rest)
        try:
            return self._apart(function, *args, **rest)
        except DecoderLost as lost:
            raise MaskRefused(MaskFault.DAMAGED, str(lost)) from None

    def beside(self, image: Stack, paths: Mapping[str, Path]) -> tuple[Path, ...]:
        """Return the NIfTI mask that the rule's pattern names for an image; nothing where it has no pattern.

        Raises:
            MaskRefused: It is not there, or not within the export.
        """
        if self._rule.pattern is None:
            return ()
        first = paths[image.instances[0].file]
        patient, study, series = _identifiers(first, image.name)
        found = nifti_beside(
            self._rule.pattern,
            export=self._export,
            series_folder=PurePosixPath(first.parent.relative_to(self._export)),
            file_stem=first.stem,
            patient_id=patient,
            study_uid=study,
            series_uid=series,
            series_number=image.instances[0].series_number,
        )
        if found in self._shared:
            raise MaskRefused(MaskFault.SHARED)
        return (found,)


def _refuse_named(masks: Sequence[Instance]) -> None:
    """Refuse masks whose headers do not keep the site's policy; contours are refused for what they are."""
    for one in masks:
        if one.kind != "rtstruct" and any(code.startswith("identity-") for code in one.faults):
            raise MaskRefused(MaskFault.NAMED)


def _identifiers(path: Path, name: str) -> tuple[str, str, str]:
    """Read what a pattern may name; it goes into a path and nowhere else."""
    try:
        with open_header(path) as header:
            patient, study, series = (text_of(header.dataset, keyword) for keyword in _ASKED)
    except UnfitFileError as unfit:
        raise CohortError(f"{name}: a header cannot be read again: {unfit.code}") from None
    return patient, study, series
