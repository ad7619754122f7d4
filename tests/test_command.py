"""One command: help everywhere, one message for every error, and exit codes that scripts can rely on."""

import importlib
import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner, Result

from willis.shared import command
from willis.shared.command import BRANCHES, Branch, willis
from willis.shared.errors import BudgetExhausted, StudyError

WILLIS = [sys.executable, "-c", "from willis.shared.command import main; main()"]


def tree(node: click.Command = willis, path: tuple[str, ...] = ()) -> Iterator[tuple[str, click.Command]]:
    """Yield every command of the tree with the words that call it."""
    yield " ".join(("willis", *path)), node
    if isinstance(node, click.Group):
        context = click.Context(node)
        for name in node.list_commands(context):
            inner = node.get_command(context, name)
            assert inner is not None
            yield from tree(inner, (*path, name))


TREE = dict(tree())


def call(*words: object) -> Result:
    return CliRunner().invoke(willis, [str(word) for word in words])


@pytest.mark.parametrize("words", TREE)
def test_every_command_has_help_with_an_example_that_parses(words):
    result = CliRunner().invoke(willis, [*words.split()[1:], "--help"])
    assert result.exit_code == 0
    lines = [line.strip() for line in result.output.splitlines() if "Example: " in line]
    assert len(lines) == 1
    example = shlex.split(lines[0].removeprefix("Example: "))
    _parse(example[1:])
    assert lines[0].startswith(f"Example: {words}")


def _parse(words: list[str]) -> None:
    """Let click read a command line, without running anything."""
    node, context = TREE["willis"], None
    while isinstance(node, click.Group):
        context = click.Context(node, parent=context)
        inner = node.get_command(context, words[0])
        assert inner is not None, words
        node, words = inner, words[1:]
    node.make_context(node.name, words, parent=context)


@pytest.mark.parametrize(
    "words", [words for words, node in TREE.items() if not isinstance(node, click.Group)]
)
def test_every_option_says_what_it_is(words):
    silent = [
        option.name for option in TREE[words].params if isinstance(option, click.Option) and not option.help
    ]
    assert silent == []


def test_help_answers_at_once():
    before = _seconds()
    ended = subprocess.run([*WILLIS, "--help"], capture_output=True, text=True, check=True)
    assert "simulate" in ended.stdout
    # CPU time, and not wall time, so that a busy machine does not fail it. It is below 0.1 s on a quiet one.
    assert _seconds() - before < 0.5


def _seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def test_bad_input_in_a_real_process_is_one_message_and_2(tmp_path):
    study = tmp_path / "study.toml"
    study.write_text('name = "demo"\nseed = -1\n')
    ended = subprocess.run(
        [*WILLIS, "simulate", str(study), "--out", str(tmp_path / "run")], capture_output=True, text=True
    )
    assert ended.returncode == 2
    assert ended.stdout == ""
    assert ended.stderr.startswith(f"willis: {study} does not fit")
    assert "seed: Input should be greater than or equal to 0, got -1" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_the_version_is_the_installed_one():
    from importlib.metadata import version

    assert version("willis") in call("--version").output


@pytest.fixture
def planted(monkeypatch):
    """Put a command that raises in the place of ``willis report`` and of ``willis simulate``."""

    def plant(error: BaseException) -> None:
        def fails(**_: object) -> None:
            raise error

        for name in ("report", "simulate"):
            module = importlib.import_module(BRANCHES[name].module)
            monkeypatch.setattr(getattr(module, name), "callback", fails)

    return plant


REPORT = ("report", "run", "--out", "report.html")
SIMULATE = ("simulate", "study.toml", "--out", "run")


@pytest.mark.parametrize(
    ("error", "message", "code"),
    [
        (BudgetExhausted("the next step costs 1.2, 1.0 is left"), "the next step costs 1.2, 1.0 is left", 1),
        (StudyError("unfit", ["seed: got -1"]), "unfit\n  * seed: got -1", 2),
        (ValueError("n must be at least 1, got 0"), "n must be at least 1, got 0", 2),
        (ValueError(), "ValueError", 2),
        (PermissionError(13, "Permission denied", "/x/y"), "cannot use /x/y: Permission denied", 2),
        (OSError("no space"), "no space", 2),
        (ConnectionRefusedError("nobody listens at hub:9092"), "nobody listens at hub:9092", 3),
        (TimeoutError("no answer within 5 s"), "no answer within 5 s", 3),
    ],
)
def test_an_error_is_one_message_and_its_code(planted, error, message, code):
    planted(error)
    result = call(*REPORT)
    assert result.exit_code == code
    assert result.stderr == f"willis: {message}\n"
    assert result.stdout == ""


def test_where_an_error_was_raised_is_shown_on_request(planted):
    planted(ValueError("n must be at least 1, got 0"))
    result = call("--traceback", *REPORT)
    assert result.exit_code == 2
    assert result.stderr.startswith("Traceback (most recent call last)")
    assert "in fails" in result.stderr
    assert result.stderr.endswith("willis: n must be at least 1, got 0\n")


def test_a_fault_of_willis_is_not_dressed_up(planted):
    planted(KeyError("lost"))
    result = call(*REPORT)
    assert result.exit_code == 1
    assert isinstance(result.exception, KeyError)


def test_control_c_says_how_to_go_on_where_that_is_possible(planted):
    planted(KeyboardInterrupt())
    stopped = call(*SIMULATE)
    assert (stopped.exit_code, stopped.stderr) == (130, "willis: interrupted; --resume continues\n")
    stopped = call(*REPORT)
    assert (stopped.exit_code, stopped.stderr) == (130, "willis: interrupted\n")


def test_a_reader_that_left_is_no_error_of_ours(planted):
    planted(BrokenPipeError(32, "Broken pipe"))
    result = call(*REPORT)
    assert result.exit_code == 1
    assert result.stderr == ""


def test_a_room_that_is_not_installed_is_3(monkeypatch):
    monkeypatch.setitem(command.BRANCHES, "report", Branch("willis.absent.cli", "report", "Absent."))
    result = call(*REPORT)
    assert result.exit_code == 3
    assert result.stderr == "willis: `willis report` needs willis.absent, which is not installed\n"
    assert call("--help").exit_code == 0


@pytest.mark.parametrize("words", [("report", "no-run"), ("prior", "show", "no-study.toml")])
def test_a_missing_folder_is_told_before_anything_is_done(tmp_path, words):
    place = tmp_path / "missing" / "dir" / "x"
    result = call(*words, "--out", place)
    remedy = f"there is no folder {place.parent}; make it, or name another file"
    assert (result.exit_code, result.stderr) == (2, f"willis: cannot write {place}: {remedy}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "words", [("nonsense",), ("report",), ("synthesize", "x", "--n", "0", "--seed", "1")]
)
def test_a_wrong_command_line_is_2(words):
    assert call(*words).exit_code == 2


def test_a_cohort_that_is_refused_in_part_is_1(phantom_cohort):
    table = phantom_cohort(subjects=1)
    assert call("cohort", "check", table).exit_code == 0
    table.write_text(table.read_text() + "p9,site-a,absent.png,absent.png\n")
    result = call("cohort", "check", table, "--json")
    assert result.exit_code == 1
    assert json.loads(result.stdout)["reasons"] == {"missing-image": 1, "missing-label": 1}
