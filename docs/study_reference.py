"""Write docs/study.md from the models that read a study: ``python docs/study_reference.py``."""

import inspect
import re
from collections.abc import Iterator, Sequence
from enum import Enum
from pathlib import Path
from types import NoneType, UnionType
from typing import Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from willis.shared.federation_plan import SitePlan
from willis.shared.prior.families import Family, parameters_of
from willis.shared.study import Study

HEAD = """\
# The study file

A study is one TOML file: the protocol that every site signs. Every key is listed here; unknown keys, NaN and
infinities are refused, and `willis simulate` names every key's fault at once with its path; what does not fit
between keys is told once the keys themselves do. A study's digest is the SHA-256 of all its values, defaults
included.
Examples: [`simulations/studies`](../simulations/studies).

This page is written by `python docs/study_reference.py` from the models in `willis.shared.study`; a test
keeps it true.
"""
_SIGNS = {"gt": "> {}", "ge": ">= {}", "lt": "< {}", "le": "<= {}"}


def reference() -> str:
    """Return the page."""
    sections = [HEAD, *dict.fromkeys(_section(Study, ""))]  # what several recipes share stands once
    sections.append(_parameters())
    return "\n".join(sections)


def _section(model: type[BaseModel], path: str) -> Iterator[str]:
    meanings = attribute_meanings(model)
    title = f"`[{path}]`" if path else "Top of the file"
    if model is SitePlan:
        title = f"`{path}`, one for each hospital"
    elif path == "recipe":
        title = f"`[recipe]` with `name = {_toml(get_args(model.model_fields['name'].annotation)[0])}`"
    lines = [f"## {title}", "", _summary(model), "", "| key | type | default | range | meaning |"]
    lines.append("| --- | --- | --- | --- | --- |")
    inner: list[tuple[type[BaseModel], str]] = []
    for name, field in model.model_fields.items():
        below = _models_in(field.annotation)
        key = f"{path}.{name}" if path else name
        inner += [(model_below, key) for model_below in below]
        if below and below != [SitePlan]:  # a table of its own, not a key of this one
            continue
        cells = (f"`{name}`", _kind(field.annotation), _default(field), _range(field), meanings[name])
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    yield "\n".join([*lines, ""])
    for below, key in inner:
        yield from _section(below, key)


def attribute_meanings(model: type[BaseModel]) -> dict[str, str]:
    """Return what the ``Attributes:`` sections of a model and its bases say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(model.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        _, _, section = text.partition("Attributes:\n")
        for match in re.finditer(r"^    (\w+): (.*(?:\n {5,}.*)*)", section, re.M):
            found[match[1]] = re.sub(r"\bNone\b", "absent", _one_line(match[2]))
    return found


def _summary(model: type[BaseModel]) -> str:
    first = inspect.cleandoc(model.__doc__ or "").partition("\n\n")[0]
    return _one_line(first)


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).replace("``", "`").strip()


def _models_in(annotation: object) -> list[type[BaseModel]]:
    """Return the models that an annotation is, or holds."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for part in get_args(annotation) for found in _models_in(part)]


def _kind(annotation: object) -> str:
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return _one_of(parts)
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return _one_of([member.value for member in annotation])
    if origin in (Union, UnionType):
        return " or ".join("absent" if part is NoneType else _kind(part) for part in parts)
    if origin is tuple:
        inner = "table" if _models_in(parts[0]) else _kind(parts[0])
        return f"list of {inner}" if parts[-1] is ... else f"list of {len(parts)} {inner}"
    if origin is dict:
        return f"table of {_kind(parts[1])}"
    return {"str": "string", "bool": "true or false"}.get(
        name := getattr(annotation, "__name__", "str"), name
    )


def _one_of(values: Sequence[object]) -> str:
    return " or ".join(f'`"{value}"`' for value in values)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "absent" if value is None else f"`{_toml(value)}`"


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Enum | str):
        return f'"{value}"'
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(part) for part in value) + "]"
    return "{}" if value == {} else f"{value:g}" if isinstance(value, float) else str(value)


def _range(field: FieldInfo) -> str:
    said = []
    for rule in field.metadata:
        said += [
            sign.format(limit if isinstance(limit, int) else f"{limit:g}")
            for name, sign in _SIGNS.items()
            if (limit := getattr(rule, name, None)) is not None
        ]
        if (least := getattr(rule, "min_length", None)) is not None:
            said.append(f"at least {least}")
        if (most := getattr(rule, "max_length", None)) is not None:
            said.append(f"at most {most}")
        if (pattern := getattr(rule, "pattern", None)) is not None:
            said.append(f"matches `{pattern}`")
    return ", ".join(said)


def _parameters() -> str:
    lines = ["## Keys of `[prior.ranges]`", ""]
    lines.append("Each is a list of low and high: every draw takes a value between them, evenly.")
    for family in Family:
        lines += ["", f'### `family = "{family.value}"`', ""]
        lines += ["| key | default | least and most | unit | meaning |", "| --- | --- | --- | --- | --- |"]
        for name, known in parameters_of(family).items():
            default, limits = f"`[{known.low:g}, {known.high:g}]`", f"{known.least:g} to {known.most:g}"
            lines.append(f"| `{name}` | {default} | {limits} | {known.unit} | {known.meaning} |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    Path(__file__).with_name("study.md").write_text(reference(), encoding="utf-8")
