"""The page: whole without a network, every number the input's, every epsilon with its unit."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread

from willis.server.checkpoint import RoundRecord, add_metrics
from willis.server.report import read_run, render, write_report
from willis.shared.errors import ReleaseError, StateError, StudyError
from willis.shared.metrics_scores import PairedDifference, SegmentationScores
from willis.shared.metrics_sheet import Evaluation, write_scores
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import write_release
from willis.shared.secure_sum.agreement import assumption
from willis.shared.study import read_study
from willis.shared.synthesis import draw_pairs

STUDY = """name = "tiny-study"
patch = {{ size = {size}, per_subject = 4 }}
prior = {{ family = "vessels" }}
networks = {{ latent = 4, generator_width = 8, critic_width = 4, depth = 2 }}
privacy = {{ unit = "{unit}", epsilon = 8.0, delta = 1e-4, sampling_rate = 0.5 }}
training = {{ rounds = 3, critic_steps = 5, patches_per_bag = 2 }}
[federation]
quorum = 1
sites = [{{ name = "north", subjects = 20 }}, {{ name = "south", subjects = 20 }}]
"""


def spent_of(epsilon: float, unit: str = "subject") -> PrivacySpent:
    fields = {"epsilon": epsilon, "delta": 1e-4, "unit": unit, "accountant": "PLD (some 1.0)"}
    note = {"patient_epsilon": 4 * epsilon, "patient_note": "over 4 patches"} if unit == "patch" else {}
    return PrivacySpent.model_validate(fields | note | {"relation": "add-or-remove-one"})


def record_of(number: int, unit: str = "subject", **changes: Any) -> RoundRecord:
    fields: dict[str, Any] = {"round": number, "merged": True, "answered": ("north", "south"), "refused": {}}
    fields |= {"strangers": {}, "norms": {"north": 1.2345678 * number, "south": 0.5}}
    fields |= {"spent": {"north": spent_of(1.11 * number, unit), "south": spent_of(0.5 * number, unit)}}
    return RoundRecord.model_validate(fields | {"seconds": 12.3456 + number} | changes)


def row_of(name: str, dice: float, unit: str) -> SegmentationScores:
    figures = {"dice": dice, "dice_interval": (dice - 0.03217, dice + 0.0411), "cldice": dice - 0.0213}
    figures |= {"hd95": 12.345 - 7 * dice, "per_subject": (dice + 0.0293, dice - 0.0293)}
    counts = {"n_subjects": 2, "n_empty_truths": 1, "n_empty_predictions": 3, "seeds": 5}
    fields = {"name": name, "hd95_unit": unit}
    return SegmentationScores.model_validate(fields | figures | counts)


def difference_of(first: str, second: str, *dice: float) -> PairedDifference:
    return PairedDifference(
        first=first, second=second, dice=dice[0], interval=(dice[1], dice[2]), n_subjects=2
    )


EVALUATION = Evaluation(
    rows=(
        row_of("real", 0.81234, "mm"),
        row_of("synthetic", 0.74321, "mm"),
        row_of("prior", 0.70987, "pixels"),
    ),
    differences=(
        difference_of("synthetic", "prior", 0.033, 0.01, 0.05),
        difference_of("synthetic", "real", -0.07, -0.1, -0.04),
        difference_of("mixed", "real", 0.001, -0.02, 0.02),
    ),
)


def make_run(
    run: Path, *, unit="subject", size="[16, 16]", rounds: int = 3, released: bool = True, scored: bool = True
) -> Path:
    run.mkdir()
    (run / "study.toml").write_text(STUDY.format(unit=unit, size=size))
    study = read_study(run / "study.toml")
    for number in range(1, rounds + 1):
        add_metrics(run / "metrics.jsonl", record_of(number, unit))
    if released:
        arrays = arrays_of(build_generator(study))
        spent = {"north": spent_of(3.33, unit), "south": spent_of(1.5, unit)}
        more: dict[str, Any] = {"run": "tiny-study-00ff", "rounds": 3, "ledger_heads": {}}
        write_release(
            run / "release", study=study, arrays=arrays, spent=spent, network=spent["north"], **more
        )
    if scored:
        write_scores(run / "scores.json", EVALUATION, privacy=spent_of(3.33, unit))
    return run


class Page(HTMLParser):
    """What is on a page: its words, its tables by id, its tags with their attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words = ""
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.exact: dict[str, list[list[float]]] = {}  # the unrounded numbers of each line
        self._open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = {key: value or "" for key, value in attrs}
        self.tags.append((tag, found))
        if tag not in ("meta", "img", "link", "br"):
            self._open.append(tag)
        if tag == "table":
            self._lines, self._numbers = self.tables[found["id"]], self.exact[found["id"]] = [], []
        if tag == "tr":
            self._lines.append([])
            self._numbers.append([])
        if tag in ("td", "th"):
            self._lines[-1].append("")
        if tag == "data" and "td" in self._open:
            self._numbers[-1].append(float(found["value"]))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, f"</{tag}> closes another tag"

    def handle_data(self, data):
        self.words += data if "style" not in self._open else ""
        if "td" in self._open or "th" in self._open:
            self._lines[-1][-1] += data

    def told(self) -> str:
        """All that a reader or a screen reader is told, on one line."""
        return " ".join(" ".join([self.words, *(found.get("alt", "") for _, found in self.tags)]).split())


def page_of(run: Path) -> tuple[str, Page]:
    html = render(read_run(run))
    return html, Page(html)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return make_run(tmp_path_factory.mktemp("report") / "run")


@pytest.fixture(scope="module")
def pages(run) -> tuple[str, Page]:
    return page_of(run)


def test_the_page_needs_no_network_and_fits_a_phone_and_the_dark(pages):
    html, page = pages
    own = re.sub(r"data:image/(png|svg\+xml);base64,[\w+/=]+", "DATA", html)
    assert not re.search(r"https?:|//|@import|url\(|<script|<link|<iframe|<object", own)
    pictures = [found for tag, found in page.tags if tag == "img"]
    assert len(pictures) == 16 + 16 + 2
    assert own.count('src="DATA"') == own.count("src=") == len(pictures)
    assert all(len(found["alt"]) > 20 for found in pictures)
    assert "prefers-color-scheme: dark" in html
    assert "max-width: 34rem" in html
    assert ("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}) in page.tags


def test_the_numbers_of_the_scores_are_those_of_the_file(pages):
    _, page = pages
    lines = page.tables["scores"][1:]
    assert [line[0] for line in lines] == ["real", "synthetic", "prior"]
    for line, exact, row in zip(lines, page.exact["scores"][1:], EVALUATION.rows, strict=True):
        assert exact == [row.dice, *row.dice_interval, row.hd95, row.cldice]
        shown = [float(number) for number in re.findall(r"-?\d+\.?\d*", " ".join(line[1:]))]
        counts = [row.n_subjects, row.n_empty_truths, row.n_empty_predictions, row.seeds]
        assert shown == pytest.approx([*exact, *counts], abs=0.005)
        assert line[2].endswith(row.hd95_unit)


def test_differences_say_what_is_shown(pages):
    words = pages[1].told()
    assert "synthetic minus prior: +0.033 Dice (+0.010 to +0.050), 2 subjects: a gain is shown." in words
    assert "synthetic minus real: -0.070 Dice (-0.100 to -0.040), 2 subjects: a loss is shown." in words
    assert "mixed minus real: +0.001 Dice (-0.020 to +0.020), 2 subjects: no difference is shown." in words


def test_scores_are_marked_as_not_covered_and_no_subject_s_own_is_told(pages):
    assert "Covered by epsilon: no." in pages[1].words
    shown = {float(number) for number in re.findall(r"\d+\.\d+", pages[0])}
    for row in EVALUATION.rows:
        assert row.dice in shown
        assert not {*row.per_subject, *(round(own, 3) for own in row.per_subject)} & shown


def test_the_numbers_of_the_rounds_are_those_of_the_records(pages):
    _, page = pages
    lines = zip(page.tables["table-rounds"][1:], page.exact["table-rounds"][1:], strict=True)
    for number, (line, exact) in enumerate(lines, start=1):
        record = record_of(number)
        assert exact == [record.norms["north"], record.norms["south"], record.seconds]
        assert line[:2] == [str(number), "yes"]
        assert line[2] == f"north {record.norms['north']:.3g}, south 0.5"
        assert line[3:] == ["none", "none", f"{record.seconds:.1f}"]


def test_refusals_and_strangers_are_listed_by_code(tmp_path):
    run = make_run(tmp_path / "run", rounds=0, released=False, scored=False)
    changes = {"merged": False, "answered": (), "norms": {}, "spent": {}}
    refused = {"south": "budget", "north": "deadline"}
    add_metrics(run / "metrics.jsonl", record_of(1, refused=refused, strangers={"other-name": 2}, **changes))
    line = page_of(run)[1].tables["table-rounds"][1]
    assert line[1:5] == ["no", "none", "north (deadline), south (budget)", "2 (other-name)"]


@pytest.mark.parametrize("unit", ["subject", "patch"])
@pytest.mark.parametrize("released", [True, False])
def test_an_epsilon_is_always_followed_by_delta_unit_and_relation(tmp_path, unit, released):
    _, page = page_of(make_run(tmp_path / "run", unit=unit, released=released))
    north, south = (line[1] for line in page.tables["sites"][1:])
    assert (north, south) == (spent_of(3.33, unit).sentence(), spent_of(1.5, unit).sentence())
    full = rf"epsilon [\d.]+ at delta 0.0001, unit {unit}, neighbours add-or-remove-one"
    patient, free = r"per patient epsilon \d+; over 4 patches", r"(costs?|at) epsilon 0\b(?!\.\d)"
    text, n = re.subn(full, "", page.told(), flags=re.IGNORECASE)
    assert n == 5  # two sites, the budget twice, and the network or what the scores name
    text, n = re.subn(patient, "", text)
    assert (n > 0) == (unit == "patch")
    assert not re.search(r"epsilon\W{0,4}\d", re.sub(free, "", text), re.IGNORECASE)
    assert ("is a patient's privacy, unless" in text) == (unit == "patch")


def test_origin_and_limits_are_told_the_same_each_time(run, pages):
    html, page = pages
    found = read_run(run)
    assert render(found) == html
    assert found.release is not None
    assert found.study.digest() in page.words
    assert found.release.digest in page.words
    for words in ("What not to conclude", "anonymous in law", "memorised", "no ground truth"):
        assert words in page.told()


def test_missing_parts_are_said(tmp_path):
    html, page = page_of(
        make_run(tmp_path / "run", size="[8, 16, 16]", rounds=0, released=False, scored=False)
    )
    for part in ("No scores yet", "No round has ended yet", "No synthetic samples", "No site has told yet"):
        assert part in page.words
    assert html.count("data:image/png;base64,") == 16  # slices of the prior's volumes


def test_a_run_that_is_still_on_shows_the_last_answers(tmp_path):
    run = make_run(tmp_path / "run", rounds=2, released=False, scored=False)
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"round": 3, "mer')  # being written right now
    assert len(read_run(run).rounds) == 2
    assert read_run(run).spent() == {"north": spent_of(2.22), "south": spent_of(1.0)}
    assert "Nothing is released yet" in page_of(run)[1].words


def test_scores_of_another_release_are_said(tmp_path):
    run = make_run(tmp_path / "run")
    assert "has the cost that they name" not in page_of(run)[1].words
    write_scores(run / "scores.json", EVALUATION, privacy=spent_of(7.77))
    assert f"the cost that they name: {spent_of(7.77).sentence()}" in page_of(run)[1].words


def test_many_rounds_are_cut_and_it_is_said(tmp_path):
    _, page = page_of(make_run(tmp_path / "run", rounds=203, released=False, scored=False))
    assert len(page.tables["table-rounds"]) == 1 + 200
    assert "3 earlier rounds are left out" in page.words


def make_pooled_run(run: Path, *, secure: bool) -> Path:
    """A run whose sites answered with sums, from which a recipe without a network learned."""
    run.mkdir()
    text = STUDY.format(unit="subject", size="[16, 16]").replace("critic_steps = 5", 'protocol = "pooled"')
    text = text.replace("patch =", 'recipe = { name = "tuned-prior", simulations = 100 }\npatch =')
    text = text.replace("quorum = 1", "quorum = 2")
    (run / "study.toml").write_text(text + ("secure = { colluders = 1 }\n" if secure else ""))
    study = read_study(run / "study.toml")
    assumes = assumption(study) if secure else ""
    spent = {site: spent_of(3.33).model_copy(update={"assumes": assumes}) for site in ("north", "south")}
    norms = {} if secure else {"north": 4.56, "south": 0.5}  # a masked sum's norm tells nothing
    add_metrics(run / "metrics.jsonl", record_of(1, spent=spent, norms=norms))
    recipe = recipe_of(study)
    more: dict[str, Any] = {"run": "tiny-study-00ff", "rounds": 1, "ledger_heads": {}}
    arrays = recipe.released(recipe.start())
    write_release(run / "release", study=study, arrays=arrays, spent=spent, network=spent["north"], **more)
    return run


@pytest.mark.parametrize("secure", [False, True])
def test_a_recipe_without_a_network_is_told_with_its_protocol_and_what_its_figure_assumes(tmp_path, secure):
    html, page = page_of(make_pooled_run(tmp_path / "run", secure=secure))
    told = page.told()
    assert "Recipe tuned-prior, protocol pooled: each site answered a round with one private sum" in told
    assert "1 of 3 rounds learned from" in told
    assert not re.search("weights|global generator|critic|update norm|merged", told)
    head = page.tables["table-rounds"][0]
    assert head[1:3] == ["Learned from", "Answered" if secure else "Answered, with norm of the sum"]
    assert page.tables["table-rounds"][1][2] == ("north, south" if secure else "north 4.56, south 0.5")
    if secure:
        assumed = f"(ASSUMING {assumption(read_study(tmp_path / 'run' / 'study.toml'))})"
        assert told.count(assumed) == 3  # the network's figure and both sites'
    assert ("ASSUMING" in told) == secure
    assert ("added up by secure aggregation: the coordinator saw their total alone" in told) == secure
    assert (
        "at most 1 of the 2 or more sites in a sum tell the coordinator their own share" in told
    ) == secure
    assert ('id="assumed"' in html) == secure


def test_the_protocol_local_is_told(pages):
    assert "Recipe dp-wgan, protocol local: each site trained from the global generator" in pages[1].told()
    assert "secure" not in pages[1].told()


def test_a_page_in_no_folder_is_refused_before_the_run_is_read(tmp_path):
    with pytest.raises(StateError, match=r"there is no folder .*missing/dir; make it, or name another file"):
        write_report(tmp_path / "no-run", tmp_path / "missing" / "dir" / "x.html")
    assert list(tmp_path.iterdir()) == []


def test_names_are_escaped(tmp_path):
    run = make_run(tmp_path / "run")
    text = (run / "scores.json").read_text().replace('"mixed"', '"<script>alert(1)</script>"')
    (run / "scores.json").write_text(text)
    html, page = page_of(run)
    assert "<script" not in html
    assert "<script>alert(1)</script> minus real" in page.words


@pytest.mark.parametrize("name", ["metrics.jsonl", "scores.json", "study.toml", "release/release.json"])
def test_a_damaged_part_is_an_error_that_names_it(tmp_path, name):
    run = make_run(tmp_path / "run")
    (run / name).write_text('{"rows": \n')
    with pytest.raises((StateError, StudyError, ReleaseError), match=Path(name).name):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_samples_are_those_of_the_release(run):
    found = read_run(run)
    assert found.release is not None
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', render(found))
    shown = imread(io.BytesIO(base64.b64decode(pictures[0])))[:, :, :3]
    assert shown.shape == (96, 6 * 33, 3)
    first = draw_pairs(found.release, n=1, seed=found.study.seed)[0].numpy()
    assert np.abs(shown[::6, : 6 * 16 : 6, 0] - (first[0] + 1) / 2).max() < 1 / 255
    marked = shown[::6, 6 * 17 :: 6]
    assert np.array_equal(marked[..., 0] - marked[..., 2] > 0.2, first[1] > 0)
