"""Names in the report's charts: each thing has its own line and its own name, however long it is called."""

import base64
import re

import pytest
from harness.made_report import EVALUATION, record_of, spent_of

from willis.server.report.figures import Chart, epsilon_chart, likeness_chart, score_chart, short_names
from willis.shared.likeness.rows import LikenessRows
from willis.shared.likeness.sheet import LikenessFigure, LikenessSheet
from willis.shared.metrics.sheet import ScoreSheet, SheetPrivacy
from willis.shared.privacy import PrivacyBudget, PrivacyUnit

LONG = "x" * 45
SAME_ENDS = ("x" * 30 + "1" + "y" * 30, "x" * 30 + "2" + "y" * 30)


def drawn(chart: Chart | None) -> str:
    """The light chart, as SVG; what its letters spell stands in comments before them."""
    assert chart is not None
    return base64.b64decode(chart.light.partition(",")[2]).decode()


def lines(svg: str) -> int:
    return len(re.findall(r'id="ytick_\d+"', svg))


def test_names_keep_apart_what_begins_or_ends_alike():
    names = (f"{LONG} one", f"{LONG} two", f"one {LONG}", "z" * 40, "short")
    short = short_names(names)
    assert short[:3] == (
        "x" * 19 + "…" + "x" * 16 + " one",
        "x" * 19 + "…" + "x" * 16 + " two",
        "one " + "x" * 15 + "…" + "x" * 20,
    )
    assert [len(name) for name in short] == [40, 40, 40, 40, 5]
    assert short[3:] == names[3:]
    # What differs in the middle alone is numbered.
    cut = "x" * 19 + "…" + "y" * 20
    assert short_names((*SAME_ENDS, "short")) == (f"1. {cut}", f"2. {cut}", "short")


@pytest.mark.parametrize("names", [(f"{LONG} one", f"{LONG} two"), SAME_ENDS])
def test_figures_of_likeness_with_long_names_have_a_line_each(names):
    def sheet(*values: float) -> LikenessSheet:
        none = {"patches": 30, "empty": 0, "full": 0}
        figures = tuple(
            LikenessFigure(name=name, value=value, real_against_real=2.0, n=30, better="lower")
            for name, value in zip(names, values, strict=True)
        )
        return LikenessSheet(figures=figures, degenerate=none, degenerate_real=none, seed=1)

    svg = drawn(likeness_chart(LikenessRows(synthetic=sheet(4.0, 8.0), prior=sheet(10.0, 10.0))))
    assert lines(svg) == 2
    told = "".join(re.findall(r"<!-- (.*?) -->", svg))
    for name in short_names(names):
        assert name.replace(" ", "") in told.replace(" ", "").replace("\n", "")


def test_rows_of_scores_with_long_names_have_a_bar_each():
    changed = tuple(
        row.model_copy(update={"name": name})
        for row, name in zip(EVALUATION.rows[:2], (f"{LONG} one", f"{LONG} two"), strict=True)
    )
    privacy = SheetPrivacy(**spent_of(1.0).model_dump())
    svg = drawn(score_chart(ScoreSheet(rows=changed, privacy=privacy)))
    assert lines(svg) == 2
    assert {"0.812", "0.743", *short_names([row.name for row in changed])} <= set(
        re.findall(r"<!-- (.*?) -->", svg)
    )


def test_sites_with_long_names_are_told_apart_in_the_legend():
    sites = (f"{'x' * 55}-north", f"{'x' * 55}-south")
    record = record_of(1, spent={site: spent_of(1.0 + at) for at, site in enumerate(sites)})
    svg = drawn(epsilon_chart([record], PrivacyBudget(epsilon=8, delta=1e-4, unit=PrivacyUnit.SUBJECT)))
    for end in ("north", "south"):
        assert svg.count(f"<!-- {'x' * 19}…{'x' * 14}-{end} -->") == 1
