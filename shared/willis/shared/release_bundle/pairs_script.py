"""Synthetic pairs of image and label from this release; the main part of the script that it carries.

Use:
    python scripts/generator.py --n 100 --seed 1 --out pairs.pt
    python scripts/generator.py --n 100 --seed 1 --nnunet FOLDER   (needs numpy and nibabel)
    Pairs("RELEASE").draw(n=100, seed=1)
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from willis.shared.release_bundle.network_drawing import drawer

_AT_ONCE = 64  # pairs in memory while a data set is written
_NEEDED = (
    "with scripts/source.zip beside this file numpy, scipy, pydantic and jaxtyping are needed too (monai for "
    "translators), with --nnunet numpy and nibabel: pip install them"
)


class Pairs:
    """Draws pairs of image and label; more of them cost no more privacy.

    Pair i depends on the release, the seed and i alone.

    Args:
        bundle: The release's folder.
        device: As torch names it; ``cuda`` where there is one. Another kind of device differs in rounding.

    Attributes:
        about: What ``configs/drawing.json`` says: size, spacing in mm, channels, privacy.
    """

    def __init__(self, bundle: str | Path = ".", device: str = "cpu") -> None:
        self.bundle = Path(bundle)
        self.about: dict[str, Any] = json.loads(
            (self.bundle / "configs" / "drawing.json").read_text(encoding="utf-8")
        )
        self._draw = drawer(self.bundle, self.about, device)

    def draw(self, *, n: int, seed: int, first: int = 0) -> Tensor:
        """Return float32 (n, channel, *size): image channels in [-1, 1], then the label, -1 or 1.

        Raises:
            ValueError: ``n``, ``seed`` or ``first`` is out of its range.
        """
        if not (1 <= n <= 10_000_000 and seed >= 0 and first >= 0):
            raise ValueError(
                f"n must be 1 to 10000000, seed and first at least 0; got {n}, {seed} and {first}"
            )
        return self._draw(first, n, seed)

    def write_nnunet(self, folder: str | Path, *, n: int, seed: int) -> str:
        """Write the raw data set of nnU-Net v2, ``DatasetNNN_Name``, into a new or an empty folder.

        Returns:
            The data set's folder.

        Raises:
            FileExistsError: The folder holds something.
        """
        folder = Path(folder)
        if folder.exists() and any(folder.iterdir()):
            raise FileExistsError(f"{folder} already holds something; name a new folder, or empty it")
        data_set = folder / str(self.about["data_set"])
        for kind in ("imagesTr", "labelsTr"):
            (data_set / kind).mkdir(parents=True)
        training = [
            self._save_pair(pair, data_set, f"syn_{number:06d}")
            for number, pair in self._numbered(n=n, seed=seed)
        ]
        sheet = self.about["data_set_sheet"] | {"numTraining": n}
        listed = {"name": sheet["name"], "privacy": sheet["privacy"], "numTraining": n, "training": training}
        for name, content in (("dataset.json", sheet), ("datalist.json", listed)):
            (data_set / name).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        return str(data_set)

    def _save_pair(self, pair: Tensor, data_set: Path, case: str) -> dict[str, Any]:
        """Save one pair as NIfTI; return its line of the list that MONAI reads."""
        import nibabel
        import numpy as np

        values = pair.numpy()
        if len(self.about["size"]) == 2:  # nnU-Net reads volumes only: a slice each
            values = values[..., None]
        *images, label = values
        names = [f"imagesTr/{case}_{channel:04d}.nii.gz" for channel in range(len(images))]
        names.append(f"labelsTr/{case}.nii.gz")
        affine = np.diag([*self.about["voxel_mm"], 1.0])
        unit = "mm" if self.about["data_set_sheet"]["spacing_known"] else "unknown"
        for name, one in zip(names, [*images, (label > 0).astype(np.uint8)], strict=True):
            picture = nibabel.Nifti1Image(one, affine)
            picture.header.set_xyzt_units(unit)
            nibabel.save(picture, data_set / name)
        return {"image": names[0] if len(images) == 1 else names[:-1], "label": names[-1]}

    def _numbered(self, *, n: int, seed: int) -> Iterator[tuple[int, Tensor]]:
        for first in range(0, n, _AT_ONCE):
            for at, pair in enumerate(self.draw(n=min(_AT_ONCE, n - first), seed=seed, first=first)):
                yield first + at, pair


def main() -> None:
    """Draw into a file or a data set, from the command line."""
    parser = argparse.ArgumentParser(description="Synthetic pairs of image and label from this release.")
    parser.add_argument("--n", type=int, required=True, help="pairs of image and label")
    parser.add_argument("--seed", type=int, required=True, help="the same seed, the same pairs")
    parser.add_argument("--device", default="cpu", help="as torch names it")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--out", help="a file for torch.load: float32 (n, channel, *size)")
    where.add_argument("--nnunet", help="a new folder for an nnU-Net raw data set")
    asked = parser.parse_args()
    try:
        pairs = Pairs(Path(__file__).resolve().parent.parent, asked.device)
        if asked.nnunet:
            where = pairs.write_nnunet(asked.nnunet, n=asked.n, seed=asked.seed)
        else:
            where = asked.out
            torch.save(pairs.draw(n=asked.n, seed=asked.seed), where)
    except ModuleNotFoundError as fault:
        sys.exit(f"generator.py: {fault.name} is not installed; {_NEEDED}")
    except (OSError, ValueError) as fault:
        sys.exit(f"generator.py: {fault}")
    sys.stdout.write(f"{asked.n} pairs in {where}\nPrivacy: {pairs.about['privacy']}\n")
