"""The file that declares how alike a run's patches and real ones are: ``likeness.json``."""

from pathlib import Path

from pydantic import model_validator

from willis.shared.errors import StateError
from willis.shared.likeness.sheet import LikenessFigure, LikenessSheet
from willis.shared.settings import Settings
from willis.shared.whole_file import write_whole


class LikenessRows(Settings):
    """Synthetic patches and the prior's, each compared with the same real patches.

    Attributes:
        synthetic: Of the release; its ``real_against_real`` are the ceiling.
        prior: Of the study's public prior, epsilon 0: the floor.
    """

    synthetic: LikenessSheet
    prior: LikenessSheet

    @model_validator(mode="after")
    def _comparable(self) -> "LikenessRows":
        names = [[(one.name, one.n) for one in sheet.figures] for sheet in (self.synthetic, self.prior)]
        if names[0] != names[1] or self.synthetic.seed != self.prior.seed:
            raise ValueError("synthetic and prior must have the same figures, numbers of patches and seed")
        return self

    def pairs(self) -> tuple[tuple[LikenessFigure, LikenessFigure], ...]:
        """Return every figure of the synthetic patches with the prior's of that name."""
        return tuple((one, self.prior.figure(one.name)) for one in self.synthetic.figures)

    def ways(self) -> dict[str, float]:
        """Return how far each figure is on the way from the prior's (0) to real against real (1).

        A figure whose floor is its ceiling is left out.
        """
        return {
            one.name: (one.value - floor.value) / (one.real_against_real - floor.value)
            for one, floor in self.pairs()
            if one.real_against_real != floor.value
        }


def write_likeness(path: Path, rows: LikenessRows) -> None:
    """Write ``likeness.json`` whole or not at all.

    Raises:
        StateError: The file cannot be written.
    """
    write_whole(path, (rows.model_dump_json(indent=2) + "\n").encode())


def read_likeness(path: Path) -> LikenessRows:
    """Read ``likeness.json``.

    Raises:
        StateError: The file is missing, or does not fit.
    """
    try:
        return LikenessRows.model_validate_json(path.read_bytes())
    except OSError as fault:
        raise StateError(f"cannot read {path}: {type(fault).__name__}; compare the release first") from fault
    except ValueError as fault:
        raise StateError(
            f"{path} is no sheet of likeness; remove it, or compare again", [str(fault)]
        ) from fault
