"""Runs of which a report is made, and its page as a reader finds it."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from willis.server.checkpoint import RoundRecord, add_metrics
from willis.server.report.page import read_run, render
from willis.shared.metrics.scores import PairedDifference, SegmentationScores
from willis.shared.metrics.sheet import Evaluation, write_scores
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent
from willis.shared.release import write_release
from willis.shared.study import read_study

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
        if tag not in ("meta", "img", "link", "br", "source", "input"):
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
        self.words += data if not {"style", "script"} & set(self._open) else ""
        if "td" in self._open or "th" in self._open:
            self._lines[-1][-1] += data

    def told(self) -> str:
        """All that a reader or a screen reader is told, on one line."""
        return " ".join(" ".join([self.words, *(found.get("alt", "") for _, found in self.tags)]).split())


def page_of(run: Path) -> tuple[str, Page]:
    html = render(read_run(run))
    return html, Page(html)
