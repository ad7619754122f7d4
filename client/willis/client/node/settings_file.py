"""Fill keys into a ``site.toml`` that a person goes on editing: all other lines stay as they are."""

import json
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path

from willis.shared.errors import StateError
from willis.shared.whole_file import write_whole

Value = str | Sequence[str]


def fill(path: Path, values: Mapping[str, Value]) -> None:
    """Set top-level keys; one that is absent, or only there as a comment, is put in its place.

    Raises:
        StateError: The file cannot be read or written, or does not take the value; it stays as it was.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as fault:
        raise StateError(f"cannot read {path}: {type(fault).__name__}; unpack the hub's kit there") from fault
    for key, value in values.items():
        text = _with(text, key, _as_toml(value))
    try:
        found = tomllib.loads(text)
    except tomllib.TOMLDecodeError as fault:
        raise StateError(f"{path} is not valid TOML: {fault}") from fault
    wrong = [key for key, value in values.items() if found.get(key) != _plain(value)]
    if wrong:
        raise StateError(f"cannot set {', '.join(wrong)} in {path}: set it by hand, above the first [table]")
    write_whole(path, text.encode())


def _with(text: str, key: str, value: str) -> str:
    head, table, rest = _halves(text)
    line = f"{key} = {value}"
    for mark in ("", r"#[ \t]*"):
        pattern = rf"^{mark}{key}[ \t]*=[ \t]*(\[[^\]]*\]|[^\n]*)"
        whole, found = re.subn(pattern, lambda _: line, head, count=1, flags=re.MULTILINE)
        if found:
            return whole + table + rest
    return f"{head.rstrip()}\n{line}\n\n{table}{rest}" if table else f"{head.rstrip()}\n{line}\n"


def _halves(text: str) -> tuple[str, str, str]:
    """Divide a file before its first table."""
    found = re.search(r"^\[", text, flags=re.MULTILINE)
    place = found.start() if found else len(text)
    return text[:place], text[place : place + 1], text[place + 1 :]


def _as_toml(value: Value) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    return "[" + ", ".join(json.dumps(one) for one in value) + "]"


def _plain(value: Value) -> object:
    return value if isinstance(value, str) else list(value)
