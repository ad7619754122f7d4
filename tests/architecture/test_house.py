"""House measures. Code that ships: sizes, docstrings, no TODO, no swallowed error. Tests: their length."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("shared", "client", "server", "simulations")
GENERATED = ("_pb2.py", "_pb2_grpc.py")  # a test of shared/collection compares them with their source
FILES = sorted(
    file for room in ROOMS for file in (ROOT / room).rglob("*.py") if not file.name.endswith(GENERATED)
)
TESTS = sorted((ROOT / "tests").rglob("*.py"))
LINES_A_FILE, LINES_A_FUNCTION = 300, 60
UNFINISHED = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
FORBIDDEN_NAMES = re.compile(r"(^|_)(utils?|helpers?|misc|common)(_|$)")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def faults(source: str) -> Iterator[str]:
    """Yield every break of the house measures in one file's text."""
    lines = source.splitlines()
    yield from _too_long(lines)
    for number, line in enumerate(lines, start=1):
        if UNFINISHED.search(line):
            yield f"line {number}: {line.strip()}"
    tree = ast.parse(source)
    if not ast.get_docstring(tree):
        yield "no module docstring"
    for node in ast.walk(tree):
        if isinstance(node, Function) and (length := _length(node)) > LINES_A_FUNCTION:
            yield f"{node.name}: {length} lines, at most {LINES_A_FUNCTION}"
        if isinstance(node, ast.ExceptHandler) and _swallows(node):
            yield f"line {node.lineno}: an error is swallowed"
    for node in _public(tree):
        if not ast.get_docstring(node):
            yield f"{node.name}: no docstring"


def _too_long(lines: list[str]) -> Iterator[str]:
    if len(lines) > LINES_A_FILE:
        yield f"{len(lines)} lines, at most {LINES_A_FILE}"


def _length(function: Function) -> int:
    return (function.end_lineno or function.lineno) - function.lineno + 1


def _swallows(handler: ast.ExceptHandler) -> bool:
    """Whether nothing is done, or everything is caught without being named."""
    idle = all(isinstance(step, ast.Pass) or _is_ellipsis(step) for step in handler.body)
    return idle or handler.type is None


def _is_ellipsis(step: ast.stmt) -> bool:
    return isinstance(step, ast.Expr) and isinstance(step.value, ast.Constant) and step.value.value is ...


def _public(tree: ast.Module) -> Iterator[Function | ast.ClassDef]:
    for node in tree.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from (
                    inner
                    for inner in node.body
                    if isinstance(inner, Function) and not inner.name.startswith("_")
                )


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_file_keeps_the_measures(file):
    assert list(faults(file.read_text(encoding="utf-8"))) == []
    assert not FORBIDDEN_NAMES.search(file.stem), f"{file.stem} says nothing of its content"


@pytest.mark.parametrize("file", TESTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_file_of_tests_is_no_longer_than_others(file):
    assert list(_too_long(file.read_text(encoding="utf-8").splitlines())) == []


GOOD = '"""Doc."""\n\n\ndef add(a: int) -> int:\n    """Return it."""\n    return a\n'


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (GOOD + "# line\n" * 300, "306 lines, at most 300"),
        (GOOD + "# TO" + "DO: later\n", "line 7: # TO" + "DO: later"),
        (GOOD.replace('"""Doc."""', ""), "no module docstring"),
        (GOOD.replace('    """Return it."""\n', ""), "add: no docstring"),
        (GOOD + "class Box:\n    " + '"""Box."""\n    def open(self): ...\n', "open: no docstring"),
        (GOOD + "def _long():\n" + "    a = 1\n" * 60, "_long: 61 lines, at most 60"),
        (GOOD + "try:\n    a = 1\nexcept ValueError:\n    pass\n", "line 9: an error is swallowed"),
        (GOOD + "try:\n    a = 1\nexcept:\n    a = 2\n", "line 9: an error is swallowed"),
    ],
)
def test_measures_can_be_broken(source, fault):
    assert list(faults(GOOD)) == []
    assert list(faults(source)) == [fault]
