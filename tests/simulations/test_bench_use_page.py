"""Seeds to rows, rows to a table and curves: means and differences by hand, and what the page must say."""

import base64
import math

import numpy as np
import pytest

from willis.shared.accounting import ACCOUNTANT
from willis.shared.metrics.scores import SegmentationScores
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.settings import parse
from willis.simulations.benchmarks.use.curves import epsilon_curves, subject_curves
from willis.simulations.benchmarks.use.grid import Epsilon, Grid
from willis.simulations.benchmarks.use.page import write_page
from willis.simulations.benchmarks.use.results import Line, Privacy, add_line, mend, read_lines
from willis.simulations.benchmarks.use.summary import summarise

GRID = parse(
    {
        "title": "By hand",
        "tested_on": "held-out",
        "epsilons": [1, 8],
        "seeds": [1, 2],
        "data": {
            f"phantoms-{number}": {
                "label": f"{number} phantoms",
                "study": "s.toml",
                "virtual": number,
                "family": "phantoms",
            }
            for number in (20, 80)
        },
        "rows": {
            "real": {"label": "real", "kind": "real"},
            "prior": {"label": "prior", "kind": "prior"},
            "null": {"label": "null", "kind": "null"},
            "atlas": {"label": "atlas", "kind": "recipe", "null": "null"},
        },
    },
    Grid,
    where="by hand",
)
PRIVACY: dict[str, Privacy] = {"real": "not private", "prior": "public", "null": "public", "atlas": "private"}


def line(
    row: str, dice: tuple[float, ...], *, seed: int = 1, data: str = "phantoms-20", epsilon=None
) -> Line:
    privacy = "not private" if epsilon == "inf" else PRIVACY[row]
    usual: dict[Privacy, Epsilon] = {"not private": "inf", "public": 0.0, "private": 8.0}
    epsilon = usual[privacy] if epsilon is None else epsilon
    spent = PrivacySpent(
        epsilon=0.0 if epsilon == "inf" else epsilon,
        delta=1e-3,
        unit=PrivacyUnit.SUBJECT,
        relation=Relation.ADD_OR_REMOVE,
        accountant=ACCOUNTANT,
    )
    scores = SegmentationScores(
        name=row,
        dice=float(np.mean(dice)),
        dice_interval=(min(dice), max(dice)),
        hd95=1.0,
        cldice=0.5,
        n_subjects=len(dice),
        n_empty_truths=0,
        n_empty_predictions=0,
        seeds=1,
        hd95_unit="mm",
        per_subject=tuple(sorted(dice, reverse=True)),
    )
    return Line(
        key=f"{data}/{row}/{epsilon}/{seed}",
        data=data,
        row=row,
        kind=GRID.rows[row].kind,
        epsilon=epsilon,
        unit=PrivacyUnit.SUBJECT,
        seed=seed,
        privacy=privacy,
        sites={"site-a": spent} if privacy == "private" else {},
        network=spent if privacy == "private" else None,
        scores=scores,
        tested_on="held-out",
        training_subjects=4 * int(data.split("-")[1]),
        study_digest="0" * 64,
        train_s=1.0,
        wall_s=3600.0,
        cpu_s=1800.0,
        machine={"torch": "2"},
    )


# Two subjects; atlas: seed 1 (0.6, 0.8), seed 2 (0.4, 0.6), so by subject (0.5, 0.7), mean 0.6.
CELLS = [
    (line("atlas", (0.6, 0.8)), (0.6, 0.8)),
    (line("atlas", (0.4, 0.6), seed=2), (0.4, 0.6)),
    (line("real", (0.7, 0.9)), (0.7, 0.9)),
    (line("prior", (0.2, 0.4)), (0.2, 0.4)),
    (line("null", (0.5, 0.3)), (0.5, 0.3)),
]


def summaries(cells=CELLS):
    return summarise(GRID, [one for one, _ in cells], {one.key: dice for one, dice in cells})


def test_a_row_is_averaged_over_seeds_by_subject_then_compared_on_the_same_subjects():
    real, prior, null, atlas = summaries()
    assert [row.row for row in (real, prior, null, atlas)] == ["real", "prior", "null", "atlas"]
    assert atlas.dice == pytest.approx(0.6)
    assert atlas.interval == pytest.approx((0.5, 0.7))
    assert atlas.by_seed == pytest.approx((0.5, 0.7))
    assert (atlas.seeds, atlas.subjects) == (2, 2)
    assert atlas.share_of_real == pytest.approx(0.6 / 0.8)
    # Subjects' differences to the prior are 0.3 and 0.3, so the interval has no width; to the null 0 and 0.4.
    assert atlas.over_prior is not None
    assert atlas.over_prior.dice == pytest.approx(0.3)
    assert atlas.over_prior.interval == pytest.approx((0.3, 0.3))
    assert atlas.over_null is not None
    assert atlas.over_null.dice == pytest.approx(0.2)
    assert atlas.over_null.interval == pytest.approx((0.0, 0.4))
    assert prior.over_prior is None
    assert real.over_null is None


def test_the_sentence_of_the_worst_seed_is_told():
    worse = [(line("atlas", (0.5,), epsilon=1.0), (0.5,))]
    [row] = summarise(GRID, [worse[0][0]], {worse[0][0].key: (0.5,)})
    assert row.sentence.startswith("epsilon 1.00 at delta 0.001, unit subject, neighbours add-or-remove-one")


def test_rows_of_another_grid_are_left_aside():
    odd = line("atlas", (0.5,)).model_copy(update={"data": "mri", "key": "mri/atlas"})
    assert summarise(GRID, [odd], {odd.key: (0.5,)}) == ()


def svg(address: str) -> str:
    head, _, data = address.partition(",")
    assert head == "data:image/svg+xml;base64"
    return base64.b64decode(data).decode()


def test_curves_have_a_legend_and_the_same_bytes_for_the_same_rows():
    more = [
        *CELLS,
        (line("atlas", (0.4, 0.5), epsilon=1.0), (0.4, 0.5)),
        (line("atlas", (0.7, 0.7), epsilon="inf"), (0.7, 0.7)),
    ]
    rows = summaries(more)
    figure = epsilon_curves(rows)
    assert figure == epsilon_curves(rows)
    for word in ("atlas", "real", "prior", "null", "not private"):
        assert f"<!-- {word}" in svg(figure) or f"({word})" in svg(figure), word
    assert epsilon_curves([row for row in rows if row.privacy == "public"]) == ""


def test_phantoms_are_drawn_against_the_number_of_subjects():
    more = [
        *CELLS,
        (line("atlas", (0.7, 0.8), data="phantoms-80"), (0.7, 0.8)),
        (line("prior", (0.2, 0.4), data="phantoms-80"), (0.2, 0.4)),
    ]
    rows = summaries(more)
    figure = svg(subject_curves(GRID, rows, family="phantoms", epsilon=8.0))
    for word in ("80", "320", "atlas", "prior"):
        assert f"<!-- {word} -->" in figure, word
    assert subject_curves(GRID, rows, family="phantoms", epsilon=math.inf) == ""


def test_the_page_tells_machine_seeds_hours_and_what_failed(tmp_path):
    more = [*CELLS, (line("atlas", (0.7, 0.8), data="phantoms-80"), (0.7, 0.8))]
    cells, in_order = [one for one, _ in more], {one.key: dice for one, dice in more}
    write_page(GRID, cells, in_order, out=tmp_path, failed={"phantoms-20/kossen": "ValueError: <no>"})
    page, table = ((tmp_path / name).read_text() for name in ("use.html", "use.md"))
    for text in (page, table):
        assert "6, 6.00 hours of one thread, 3.00 of them at work" in text
        assert "torch 2" in text
        assert "80 subjects train, 2 are tested on." in text
        assert "epsilon 8.00 at delta 0.001, unit subject, neighbours add-or-remove-one" in text
        assert "+0.300 (+0.300 to +0.300)" in text
        assert "phantoms-20/kossen" in text
    assert "ValueError: &lt;no&gt;" in page
    assert "how many subjects does it take?" in page
    assert "prefers-color-scheme: dark" in page


def test_lines_come_back_as_they_were_written_and_a_torn_one_is_cut(tmp_path):
    path = tmp_path / "results.jsonl"
    assert read_lines(path) == []
    mend(path)
    for one, _ in CELLS:
        add_line(path, one)
    with path.open("ab") as file:
        file.write(b'{"key": "to')
    mend(path)
    assert read_lines(path) == [one for one, _ in CELLS]
    assert "inf" not in str(read_lines(path)[0].model_dump(mode="json")["epsilon"])
    add_line(path, CELLS[0][0])
    with pytest.raises(Exception, match="holds two lines of phantoms-20/atlas"):
        read_lines(path)
    path.write_text("{}\n")
    with pytest.raises(Exception, match="line 1 does not fit"):
        read_lines(path)
    path.write_text("{\n")
    with pytest.raises(Exception, match="line 1 is not valid JSON"):
        read_lines(path)
