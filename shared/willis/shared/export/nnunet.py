"""Labelled patches as an nnU-Net v2 raw data set: NIfTI files, ``dataset.json`` and ``datalist.json``.

The second is the list in the manner of the Medical Segmentation Decathlon that MONAI reads.

nnU-Net reads NIfTI as volumes only, so a 2-D patch becomes a volume of one slice. nnU-Net takes the axis of
the largest spacing for the one across slices; the slice gets the 999 mm that its own 2-D readers use, so
that it plans a 2-D network (2.8.1: ``nnUNetv2_plan_and_preprocess --verify_dataset_integrity``).
"""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np

from willis.shared.export.nifti import save_nifti
from willis.shared.export.whole_folder import whole_folder
from willis.shared.patch import LabelledPatches, PatchSpec

NUMBER = 901  # of a data set, where nobody names another
ACROSS_MM = 999.0  # what nnU-Net takes for the distance of 2-D slices


def write_nnunet(
    batches: Iterable[LabelledPatches],
    folder: Path,
    *,
    spec: PatchSpec,
    name: str,
    foreground: str,
    about: Mapping[str, object],
    number: int = NUMBER,
) -> Path:
    """Write ``DatasetNNN_Name`` into a new folder, which can serve as ``nnUNet_raw``.

    In ``datalist.json`` paths are relative to it; an image of several channels is a list of files.

    Args:
        batches: Patches as a release draws them; one batch is in memory at a time.
        folder: Must not exist, or be empty.
        spec: Of the patches. Where it knows no spacing, files say 1 and ``spacing_known`` says false.
        name: Of the data set.
        foreground: What label 1 is.
        about: Joined to both lists: privacy, where the patches come from.
        number: 1 to 999.

    Returns:
        The data set's folder.

    Raises:
        ValueError: ``number`` is out of its range.
        StateError: The folder is not empty or cannot be written; nothing is left there.
    """
    title = title_of(name, number)
    with whole_folder(folder) as part:
        data = part / title
        (data / "imagesTr").mkdir(parents=True)
        (data / "labelsTr").mkdir()
        with (data / "datalist.json").open("w", encoding="utf-8") as listed:
            listed.write('{"training": [')
            n = 0
            for batch in batches:
                for patch in batch.numpy():
                    pair = _save_pair(patch, data, f"syn_{n:06d}", spec=spec)
                    listed.write((",\n" if n else "\n") + json.dumps(pair))
                    n += 1
            named = {"name": title, "labels": {"0": "background", "1": foreground}, "numTraining": n}
            listed.write("\n], " + json.dumps({**named, **about})[1:] + "\n")
        sheet = {
            "channel_names": {str(at): channel.value for at, channel in enumerate(spec.channels)},
            "labels": {"background": 0, foreground: 1},
            "numTraining": n,
            "file_ending": ".nii.gz",
            "name": title,
            "spacing_known": spec.spacing_mm is not None,
            **about,
        }
        (data / "dataset.json").write_text(json.dumps(sheet, indent=2) + "\n", encoding="utf-8")
    return folder / title


def title_of(name: str, number: int = NUMBER) -> str:
    """Return the name of a data set as nnU-Net wants it, ``Dataset901_TinyStudy`` of ``tiny-study``.

    Raises:
        ValueError: ``number`` is out of its range.
    """
    if not 1 <= number <= 999:
        raise ValueError(f"number must be 1 to 999, got {number}")
    return f"Dataset{number:03d}_{''.join(part.capitalize() for part in name.replace('_', '-').split('-'))}"


def _save_pair(patch: np.ndarray, data: Path, case: str, *, spec: PatchSpec) -> dict[str, object]:
    images, label = [], f"labelsTr/{case}.nii.gz"
    for channel, image in enumerate(patch[:-1]):
        images.append(f"imagesTr/{case}_{channel:04d}.nii.gz")
        save_nifti(image.astype(np.float32), data / images[-1], spec=spec, across_mm=ACROSS_MM)
    save_nifti((patch[-1] > 0).astype(np.uint8), data / label, spec=spec, across_mm=ACROSS_MM)
    return {"image": images[0] if len(images) == 1 else images, "label": label}
