"""How alike every system's patches and real ones are, as cells of a table; each beside real against real."""

from collections.abc import Mapping

from jaxtyping import Float
from torch import Tensor

from willis.shared.likeness.sheet import LikenessSheet, likeness
from willis.shared.patch import LabelledPatches
from willis.simulations.experiments.experiment import Row, Setting, Table, Value
from willis.simulations.experiments.parts import kept_values

REAL, PRIOR = "real", "prior"


def likeness_part(
    setting: Setting,
    sets: Mapping[str, LabelledPatches],
    *,
    others: Float[Tensor, "other channel *space"],
    seed: int,
    n: int,
) -> dict[str, dict[str, Value]]:
    """Return cells by system: every figure of likeness with its N, and how many masks are degenerate.

    Args:
        setting: Whose folder keeps them.
        sets: Patches by system; ``real`` are of the subjects who train.
        others: Real patches of subjects who do not: against ``real`` they are what can be reached at this N,
            and the row ``real`` holds that.
        seed: Of the choice of patches and of random features.
        n: Patches compared of each set.

    Raises:
        CohortError: A set holds fewer than ``n`` patches.
    """
    found = {}
    for name in sets:

        def make(name: str = name) -> dict[str, Value]:
            setting.show.say(f"likeness of {name}")
            sheet = likeness(sets[name], sets[REAL], others, seed=seed, n=n)
            return _cells(sheet, is_real=name == REAL)

        found[name] = kept_values(setting.folder, f"likeness/{name}", make)
    return found


def likeness_table(found: Mapping[str, Mapping[str, Value]]) -> Table:
    """Return what :func:`likeness_part` found as a table."""
    return Table(
        "Likeness to real patches, each figure beside real against real at the same N; degenerate masks. "
        "No figure of likeness sees memorisation.",
        tuple(Row(name, cells) for name, cells in found.items()),
    )


def _cells(sheet: LikenessSheet, *, is_real: bool) -> dict[str, Value]:
    cells: dict[str, Value] = {}
    for figure in sheet.figures:
        reached = figure.real_against_real
        cells[f"{figure.name}, N = {figure.n}"] = reached if is_real else figure.value
        cells[f"{figure.name}, real against real"] = reached
    odd = sheet.degenerate_real if is_real else sheet.degenerate
    return cells | {
        f"{kind.replace('_', ' ')} masks of {odd['patches']}": odd[kind] for kind in odd if kind != "patches"
    }
