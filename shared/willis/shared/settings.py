"""How everything a person writes is read: typed, complete, frozen, all errors at once."""

import hashlib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError, ValidationInfo, field_validator

from willis.shared.errors import InputError, StudyError


class Settings(BaseModel):
    """Base of all settings: unknown keys, NaN and infinities are refused; values never change."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, validate_default=True)

    @field_validator("*", mode="before")
    @classmethod
    def _numbers_are_numbers(cls, value: object, info: ValidationInfo) -> object:
        """Refuse true, false and text where a number belongs; pydantic would take "8" for 8."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if wanted in (int, float) and isinstance(value, bool | str):
            raise ValueError("must be a number")
        return value

    def digest(self) -> str:
        """Return the SHA-256 of the settings in one canonical form, as 64 hex digits."""
        canonical = json.dumps(self.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()


AnySettings = TypeVar("AnySettings", bound=Settings)


def read_toml(path: Path, kind: type[AnySettings], *, error: type[InputError] = StudyError) -> AnySettings:
    """Read settings from a TOML file.

    Args:
        path: The file.
        kind: Which settings it holds.
        error: What to raise; its ``problems`` lists every fault with the path of its key.

    Raises:
        error: The file is missing, is not TOML, or does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"cannot read {path}: {type(fault).__name__}") from fault
    try:
        values = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise error(f"{path} is not valid TOML: {fault}") from fault
    return parse(values, kind, where=str(path), error=error)


def parse(
    values: object, kind: type[AnySettings], *, where: str, error: type[InputError] = StudyError
) -> AnySettings:
    """Build settings from plain values; see :func:`read_toml`."""
    try:
        return kind.model_validate(values)
    except ValidationError as fault:
        problems = [line for item in _told_once(fault.errors()) for line in _problem(item).split("\n")]
        raise error(f"{where} does not fit ({len(problems)} problems)", problems) from fault


def refuse(faults: Sequence[str]) -> None:
    """Raise ``ValueError`` with all faults, one a line, for :func:`parse` to tell apart; none is no error."""
    if faults:
        raise ValueError("\n".join(faults))


def _told_once(items: list) -> list:
    """Leave out a list that is too short only because its items are the ones refused."""
    places = [item["loc"] for item in items]
    return [
        item
        for item in items
        if not (
            item["type"] == "too_short"
            and any(
                len(place) > len(item["loc"]) and place[: len(item["loc"])] == item["loc"] for place in places
            )
        )
    ]


def _problem(item) -> str:
    key = ".".join(str(part) for part in item["loc"]) or "(whole file)"
    message = item["msg"].removeprefix("Value error, ").replace("\n", f"\n{key}: ")
    if item["type"] == "missing":
        return f"{key}: missing, and has no default"
    if item["type"] == "extra_forbidden":
        return f"{key}: unknown key, got {item['input']!r}; see the study reference for what is known"
    if isinstance(item["input"], dict | list):
        return f"{key}: {message}"
    return f"{key}: {message}, got {item['input']!r}"
