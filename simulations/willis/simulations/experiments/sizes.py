"""An experiment's sizes: a TOML file beside its module, one table for each size."""

import tomllib
from pathlib import Path
from typing import TypeVar

from willis.shared.errors import StudyError
from willis.shared.settings import Settings, parse
from willis.simulations.experiments.experiment import Size

AnyPlan = TypeVar("AnyPlan", bound=Settings)


def read_size(path: Path, size: Size, kind: type[AnyPlan]) -> AnyPlan:
    """Return one size of an experiment: the table ``[every]``, where there is one, with the size's over it.

    Args:
        path: Of the TOML file.
        size: Name of the table.
        kind: What the table holds; nested tables are merged key by key.

    Raises:
        StudyError: There is no such table, or it does not fit.
    """
    values = tomllib.loads(path.read_text(encoding="utf-8"))
    if size not in values:
        raise StudyError(f"{path.name} has no size {size}; it has {', '.join(set(values) - {'every'})}")
    return parse(merged(values.get("every", {}), values[size]), kind, where=f"{path.name} [{size}]")


def merged(values: dict, changes: dict) -> dict:
    """Return nested tables with changes in their place."""
    out = dict(values)
    for key, change in changes.items():
        both = isinstance(change, dict) and isinstance(out.get(key), dict)
        out[key] = merged(out[key], change) if both else change
    return out
