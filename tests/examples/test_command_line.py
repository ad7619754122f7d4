"""What the examples ask on their command line, and how they refuse it."""

import importlib.util
from pathlib import Path

import pytest

from willis.shared.errors import ReleaseError, StateError, Unreachable

_FILE = Path(__file__).parents[2] / "docs" / "examples" / "command_line.py"
_spec = importlib.util.spec_from_file_location("command_line", _FILE)
assert _spec is not None
assert _spec.loader is not None
command_line = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(command_line)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (ReleaseError("no release there"), 2),
        (ValueError("n must be at least 1, got 0"), 2),
        (FileNotFoundError("no such table"), 2),
        (Unreachable("there is no CUDA device"), 3),
    ],
)
def test_what_cannot_be_used_ends_with_its_sentence_alone(fault, code, capsys):
    with pytest.raises(SystemExit) as ended, command_line.plain_refusals():
        raise fault
    assert ended.value.code == code
    assert capsys.readouterr().err == f"Error: {fault}\n"


def test_a_fault_of_the_program_itself_keeps_its_traceback():
    with pytest.raises(RuntimeError, match="no such operator"), command_line.plain_refusals():
        raise RuntimeError("no such operator")


def test_a_new_or_an_empty_folder_is_taken_and_nothing_is_made(tmp_path):
    command_line.check_empty(tmp_path / "new")
    assert list(tmp_path.iterdir()) == []
    command_line.check_empty(tmp_path)
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path, tmp_path / "file"):
        with pytest.raises(StateError, match="already holds something"):
            command_line.check_empty(place)
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize(("test", "training"), [(True, True), (True, False), (False, False)])
def test_tables_are_asked_for_where_a_program_needs_them(test, training, capsys):
    parser = command_line.options("What it does.\n\nMore.", test=test, training=training)
    assert parser.description == "What it does."
    words = ["--release", "r", "--out", "o"]
    lacking = [name for name, needed in (("--test", test), ("--training", training)) if needed]
    if lacking:
        with pytest.raises(SystemExit):
            parser.parse_args(words)
        assert f"required: {', '.join(lacking)}" in capsys.readouterr().err
    asked = parser.parse_args([*words, *(word for name in lacking for word in (name, "t.csv"))])
    assert (asked.test, asked.training) == (
        Path("t.csv") if test else None,
        Path("t.csv") if training else None,
    )
