"""Text written to do harm stays text on the page, wherever a run's folder or its release lets it in."""

import copy
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from harness.made_release import sign
from harness.made_report import Page, make_run, page_of

from willis.server.checkpoint import RoundRecord
from willis.server.report.page import read_run
from willis.shared.errors import WillisError
from willis.shared.likeness.rows import LikenessRows, read_likeness, write_likeness
from willis.shared.likeness.sheet import LikenessFigure, LikenessSheet
from willis.shared.metrics.sheet import read_scores
from willis.shared.release import read_release
from willis.shared.study import read_study

HARM = (
    "</script></textarea>-->$\\frac{$<script>alert(1)</script><img src=x onerror='alert(2)' x=\">{{ 7 * 7 }}"
)
CARD = f"# {HARM}\n\n{HARM}\n\n| a | b |\n| - | - |\n| {HARM} | [x](javascript:alert(1)) |\n"

Way = tuple[str | int, ...]


def strings(values: Any, way: Way = ()) -> Iterator[Way]:
    """Yield the way to every string of some JSON, and to every key: such a way ends in an empty word."""
    if isinstance(values, str):
        yield way
    for key, value in values.items() if isinstance(values, dict) else ():
        yield (*way, key, "")
        yield from strings(value, (*way, key))
    for at, value in enumerate(values) if isinstance(values, list) else ():
        yield from strings(value, (*way, at))


def planted(values: Any, way: Way, harm: str) -> Any:
    """Return a copy with harm in place of the string or the key at the end of a way."""
    made = copy.deepcopy(values)
    key = way[-1] == ""
    *into, last = way[:-1] if key else way
    place = made
    for step in into:
        place = place[step]
    if key:
        place[harm] = place.pop(last)
    else:
        place[last] = harm
    return made


def plant_all(values: Any, accepts: Callable[[Any], bool]) -> tuple[Any, list[Way]]:
    """Put harm into every place, one after the other, that the file's own reader accepts."""
    found = []
    for number, way in enumerate(strings(values)):
        if accepts(planted(values, way, f"{HARM}{number}")):
            found.append(way)
    deepest_first = sorted(found, key=lambda way: (-len(way), way[-1] == ""))
    for number, way in enumerate(deepest_first):
        values = planted(values, way, f"{HARM}{number}")
    assert accepts(values)
    return values, found


def text_of(values: Any, path: Path) -> str:
    """Return some values as the file of that name holds them."""
    if path.suffix != ".toml":
        return json.dumps(values)
    return "".join(f"{json.dumps(key)} = {inline(value)}\n" for key, value in values.items())


def inline(value: Any) -> str:
    """Return a value as TOML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(key)} = {inline(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(inline(one) for one in value) + "]"
    return json.dumps(value)


def reads(path: Path, reader: Callable[[Path], Any], after: Callable[[], None]) -> Callable[[Any], bool]:
    """Return what says whether a reader accepts a file with these values."""

    def accepts(values: Any) -> bool:
        path.write_text(text_of(values, path))
        after()
        try:
            reader(path)
        except (WillisError, ValueError):
            return False
        return True

    return accepts


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    run = make_run(tmp_path_factory.mktemp("hostile") / "run", rounds=1)
    write_likeness(run / "likeness.json", LikenessRows(synthetic=likeness(4.0), prior=likeness(10.0)))
    return run


def whole_study(path: Path) -> dict[str, Any]:
    """Every value of a study, its defaults too: more places than its author wrote."""
    return read_study(path).model_dump(mode="json", exclude_none=True)


def likeness(value: float) -> LikenessSheet:
    """Figures have one name in both sheets, so that it holds its harm from the beginning."""
    figure = LikenessFigure(name=HARM, value=value, real_against_real=2.0, n=30, better="lower")
    none = {"patches": 30, "empty": 0, "full": 0}
    return LikenessSheet(figures=(figure,), degenerate=none, degenerate_real=none, seed=1)


@pytest.fixture(scope="module")
def pages(run) -> tuple[Page, str, Page, dict[str, list[Way]]]:
    """The page before, the page with all the harm, as text and as read, and where harm got in."""
    (_, before), release = page_of(run), run / "release"
    where: dict[str, list[Way]] = {}
    nothing = lambda: None  # noqa: E731
    for path, reader, after in (
        (run / "study.toml", read_study, nothing),
        (run / "metrics.jsonl", lambda path: RoundRecord.model_validate_json(path.read_text()), nothing),
        (run / "scores.json", read_scores, nothing),
        (run / "likeness.json", read_likeness, nothing),
        (release / "release.json", lambda path: read_release(path.parent), lambda: sign(release)),
    ):
        values = json.loads(path.read_text()) if path.suffix != ".toml" else whole_study(path)
        values, where[path.name] = plant_all(values, reads(path, reader, after))
        path.write_text(text_of(values, path) + "\n")
    (release / "docs" / "README.md").write_text(CARD)
    sign(release)
    html, after_all = page_of(run)
    return before, html, after_all, where


def test_harm_gets_into_every_file_but_not_into_what_the_privacy_figure_says(pages):
    *_, where = pages
    assert {name: len(found) > 0 for name, found in where.items()} == dict.fromkeys(where, True)
    assert where["study.toml"] == [("training", "warm_start")], "all its other words are names or choices"
    assert ("answered", 0) in where["metrics.jsonl"]
    assert ("start", "note") in where["release.json"]
    assert not [way for way in where["release.json"] if way[0] in ("network", "run", "study_digest", "study")]


def test_no_element_and_no_attribute_comes_of_it(pages):
    """Some sentences are others, since no row is "real" any more; no kind of element is new."""
    before, html, after, _ = pages
    known = {(tag, tuple(found)) for tag, found in before.tags} | {("p", ("class", "id")), ("p", ("class",))}
    assert {(tag, tuple(found)) for tag, found in after.tags} <= known
    for tag in ("script", "img", "source", "a", "input", "meta", "style", "option"):
        assert len(re.findall(f"<{tag}[ >]", without_scripts(html))) == sum(
            one == tag for one, _ in before.tags
        )
    assert not [key for _, found in after.tags for key in found if key.startswith("on")]
    assert not [found for _, found in after.tags if "javascript" in found.get("href", "")]


def without_scripts(html: str) -> str:
    """The page with its own scripts emptied, which are known by what the browser is told of them."""
    return re.sub(r"(<script[^>]*>).*?</script>", r"\1</script>", html, flags=re.S)


def test_it_is_told_as_it_was_written_and_nothing_is_worked_out(pages):
    _, html, after, _ = pages
    assert after.words.count("{{ 7 * 7 }}") >= 10
    assert after.words.count("<script>alert(1)</script>") >= 10
    assert html.count("alert(1)") == html.count("&lt;script&gt;alert(1)&lt;/script&gt;") + html.count(
        "javascript:alert(1)"
    )


def test_a_name_in_the_study_or_of_a_site_is_refused_before_it_gets_there(tmp_path):
    run = make_run(tmp_path / "run", released=False, scored=False)
    told = (run / "study.toml").read_text()
    for old, new in (('name = "tiny-study"', 'name = "<script>"'), ('"north"', '"<b>north"')):
        (run / "study.toml").write_text(told.replace(old, new))
        with pytest.raises(WillisError, match="name"):
            read_run(run)
