"""Labelled patches as an nnU-Net v2 raw data set: NIfTI files, and ``dataset.json`` beside them.

nnU-Net reads NIfTI as volumes only, so a 2-D patch becomes a volume of one slice. nnU-Net takes the axis of
the largest spacing for the one across slices; the slice gets the 999 mm that its own 2-D readers use, so
that it plans a 2-D network (2.8.1: ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity``).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import nibabel
import numpy as np

from willis.shared.export.whole_folder import whole_folder
from willis.shared.patch import LabelledPatches, PatchSpec

_ACROSS_MM = 999.0


def write_nnunet(
    batches: Iterable[LabelledPatches],
    folder: Path,
    *,
    spec: PatchSpec,
    name: str,
    foreground: str,
    about: Mapping[str, object],
    number: int = 901,
) -> Path:
    """Write ``DatasetNNN_Name`` into a new folder, which can serve as ``nnUNet_raw``.

    Args:
        batches: Patches as a release draws them; one batch is in memory at a time.
        folder: Must not exist, or be empty.
        spec: Of the patches. Where it knows no spacing, files say 1 and ``spacing_known`` says false.
        name: Of the data set.
        foreground: What label 1 is.
        about: Joined to ``dataset.json``: privacy, where the patches come from.
        number: 1 to 999.

    Returns:
        The data set's folder.

    Raises:
        ValueError: ``number`` is out of its range.
        StateError: The folder is not empty or cannot be written; nothing is left there.
    """
    if not 1 <= number <= 999:
        raise ValueError(f"number must be 1 to 999, got {number}")
    title = f"Dataset{number:03d}_{''.join(part.capitalize() for part in name.replace('_', '-').split('-'))}"
    with whole_folder(folder) as part:
        images, labels = part / title / "imagesTr", part / title / "labelsTr"
        images.mkdir(parents=True)
        labels.mkdir()
        n = 0
        for batch in batches:
            for patch in batch.numpy():
                for channel, image in enumerate(patch[:-1]):
                    _save(image.astype(np.float32), images / f"syn_{n:06d}_{channel:04d}.nii.gz", spec)
                _save((patch[-1] > 0).astype(np.uint8), labels / f"syn_{n:06d}.nii.gz", spec)
                n += 1
        sheet = {
            "channel_names": {str(at): channel.value for at, channel in enumerate(spec.channels)},
            "labels": {"background": 0, foreground: 1},
            "numTraining": n,
            "file_ending": ".nii.gz",
            "name": title,
            "spacing_known": spec.spacing_mm is not None,
            **about,
        }
        (part / title / "dataset.json").write_text(json.dumps(sheet, indent=2) + "\n", encoding="utf-8")
    return folder / title


def _save(values: np.ndarray, path: Path, spec: PatchSpec) -> None:
    spacing = list(spec.spacing_mm or [1.0] * spec.dimensions)
    if spec.dimensions == 2:
        values, spacing = values[:, :, None], [*spacing, _ACROSS_MM]
    picture = nibabel.Nifti1Image(values, np.diag([*spacing, 1.0]))
    picture.header.set_xyzt_units("mm" if spec.spacing_mm is not None else "unknown")
    nibabel.save(picture, path)
