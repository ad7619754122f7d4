"""What the documents promise: every command is told, every line of them runs, every figure is the code's."""

import importlib.util
import re
import shlex
from pathlib import Path

import click
import pytest
from pydantic import BaseModel

from willis.shared.command import willis
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.prior.families import Family, parameters_of
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.release import write_release
from willis.shared.study import Study, read_study

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
README = PAGES[0].read_text(encoding="utf-8")
DOCS = "\n".join(page.read_text(encoding="utf-8") for page in PAGES)
STUDIES = sorted((ROOT / "simulations" / "studies").glob("*.toml"))

_spec = importlib.util.spec_from_file_location("study_reference", ROOT / "docs" / "study_reference.py")
assert _spec is not None
assert _spec.loader is not None
study_reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(study_reference)


def leaves(node: click.Command, words: str = "willis") -> dict[str, click.Command]:
    """Return the commands that do something, by the words that call them."""
    if not isinstance(node, click.Group):
        return {words: node}
    context, found = click.Context(node), {}
    for name in node.list_commands(context):
        inner = node.get_command(context, name)
        assert inner is not None
        found |= leaves(inner, f"{words} {name}")
    return found


COMMANDS = leaves(willis)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language."""
    return [
        block for told, block in re.findall(r"^```(\w*)\n(.*?)^```", text, re.M | re.S) if told == language
    ]


def told_lines(text: str) -> list[str]:
    return [line for block in blocks(text, "") for line in block.splitlines() if line.startswith("willis ")]


@pytest.mark.parametrize("words", COMMANDS)
def test_every_command_is_told_with_a_line_to_copy(words):
    assert any(line.startswith(words + " ") or line == words for line in told_lines(README))


@pytest.mark.parametrize("line", sorted(set(told_lines(DOCS))))
def test_every_line_of_a_page_is_a_command_that_parses(line):
    words = max((words for words in COMMANDS if line.startswith(words)), key=len)
    context = COMMANDS[words].make_context(words, shlex.split(line.removeprefix(words).removesuffix(" &")))
    for value in context.params.values():
        if isinstance(value, Path) and value.suffix == ".toml" and value != Path("study.toml"):
            assert (ROOT / value).exists()


@pytest.mark.parametrize("name", ["site", "simulate", "collect"])
def test_each_user_has_a_page_that_the_readme_names_and_five_minutes_suffice_for(name):
    page = ROOT / "docs" / f"{name}.md"
    assert f"](docs/{name}.md)" in README
    assert len(page.read_text(encoding="utf-8").splitlines()) <= 150
    assert len(told_lines(page.read_text(encoding="utf-8"))) >= 5


def test_every_make_target_of_the_readme_exists():
    makefile = (ROOT / "Makefile").read_text()
    told = set(re.findall(r"`?make (?:[A-Z]+=\S+(?: --index-url \S+\")? )?([a-z][a-z-]*)", README))
    assert {"demo", "test", "lint", "format", "clean", "test-gpu", "test-slow", "test-federation"} <= told
    assert all(re.search(rf"^{target}:", makefile, re.M) for target in told - {"it"}), told


def test_every_link_leads_somewhere():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("http"):
                assert (page.parent / target).resolve().exists(), f"{page.name}: {target}"


@pytest.fixture
def _demo_release(tmp_path, tiny_study, monkeypatch):
    """A tiny release where the README's lines look for one."""
    study = tiny_study()
    spent = PrivacySpent(
        epsilon=1.0,
        delta=1e-3,
        unit=PrivacyUnit.SUBJECT,
        relation=Relation.ADD_OR_REMOVE,
        accountant="pld",
    )
    write_release(
        tmp_path / "runs" / "demo" / "release",
        study=study,
        arrays=arrays_of(build_generator(study)),
        run="tiny-00",
        rounds=1,
        network=spent,
        spent={"site-a": spent},
        ledger_heads={},
    )
    monkeypatch.chdir(tmp_path)


@pytest.mark.usefixtures("_demo_release")
def test_the_python_of_the_readme_runs(capsys):
    snippets = blocks(README, "python")
    assert len(snippets) == 2
    names: dict = {}
    exec(compile(snippets[0], "README.md", "exec"), names)
    assert names["images"].shape == (64, 1, 16, 16)
    assert names["labels"].shape == (64, 1, 16, 16)
    assert capsys.readouterr().out.startswith("epsilon 1.00 at delta 0.001, unit subject")
    exec(compile(snippets[1], "README.md", "exec"), names)
    assert names["batch"].shape == (32, 2, 16, 16)


def test_the_study_reference_is_the_models():
    written = (ROOT / "docs" / "study.md").read_text(encoding="utf-8")
    assert written == study_reference.reference(), "run: python docs/study_reference.py"


def keys(model: type[BaseModel], path: str = "") -> list[tuple[str, str]]:
    """Return every key of a model and those below it, with the section where it must stand."""
    found = []
    for name, field in model.model_fields.items():
        below = study_reference._models_in(field.annotation)
        inner = f"{path}.{name}" if path else name
        for one in below:
            found += keys(one, inner)
        if not below or inner == "federation.sites":
            found.append((path, name))
    return found


def test_the_study_reference_lacks_no_key():
    page = study_reference.reference()
    sections = {match[1]: match[2] for match in re.finditer(r"^## (.*)\n((?:(?!^## ).*\n?)*)", page, re.M)}
    for path, name in keys(Study):
        titles = [title for title in sections if title.startswith(("`[" + path + "]`", f"`{path}`"))]
        titles = titles if path else ["Top of the file"]
        rows = (re.search(rf"^\| `{name}` \| (.*) \|$", sections[title], re.M) for title in titles)
        row = next((found for found in rows if found is not None), None)
        assert row is not None, f"{path}.{name}"
        assert row[1].split(" | ")[-1].strip(), f"{path}.{name} has no meaning"
    for family in Family:
        assert all(f"| `{name}` |" in page for name in parameters_of(family))


@pytest.mark.parametrize(
    ("row", "path"),
    [
        ("| `epsilon` | float | required | > 0 |", "privacy"),
        ("| `sampling_rate` | float | required | > 0, <= 1 |", "privacy"),
        ('| `unit` | `"subject"` or `"patch"` | required |', "privacy"),
        ("| `betas` | list of 2 float | `[0, 0.9]` |", "training"),
        ("| `spacing_mm` | list of float or absent | absent |", "patch"),
    ],
)
def test_the_study_reference_by_hand(row, path):
    section = study_reference.reference().partition(f"## `[{path}]`")[2].partition("\n## ")[0]
    assert row in section


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_that_ships_can_be_read(path):
    study = read_study(path)
    assert study.name == path.stem
    assert f"simulations/studies/{path.name}" in README
    assert re.search(rf"^\| {study.name} \|", README, re.M)
    assert initial_generator(study).size == study.patch.size  # its warm start is shipped, and fits


def test_the_table_of_studies_is_true():
    rows = {
        cells[0]: cells[1:]
        for line in README.splitlines()
        if line.startswith("| ") and len(cells := [cell.strip() for cell in line.strip("|").split("|")]) == 4
    }
    for path in STUDIES:
        study = read_study(path)
        assert " x ".join(map(str, study.patch.size)) in rows[study.name][1]
        subjects = {site.subjects for site in study.federation.sites}
        if len(subjects) == 1:
            assert f"{subjects.pop():,}" in rows[study.name][0]


def test_the_changelog_starts_with_the_version():
    import tomllib

    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[([^\]]+)\] - (\d{4}-\d\d-\d\d)$", changelog, re.M)
    assert newest is not None
    assert newest[1] == version
    assert f"[{version}]:" in changelog


def test_the_exit_codes_are_those_of_the_command():
    told = re.search(r"0 ok, 1 refused, 2 bad input or configuration, 3 unreachable, 130 interrupted", README)
    assert told is not None
    assert told[0] in (willis.epilog or "")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_spelling_is_british_and_lines_are_short(page):
    text = page.read_text(encoding="utf-8")
    american = re.findall(
        r"\b(?:color|behavior|center|optimizer|normalize\w*|organiz\w*|analyze|license)\b", text
    )
    assert american == []
    long = [
        line for line in text.splitlines() if len(line) > 118 and not line.startswith(("|", "willis ", "!"))
    ]
    assert long == []
