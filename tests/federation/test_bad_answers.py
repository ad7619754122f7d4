"""One site answers badly, one twice, one is forbidden to by its law: rounds go on, and are recorded."""

from dataclasses import dataclass

import pytest
from living_federation import Federation

from willis.client.node.audit import AUDIT_FILE, AuditLog
from willis.server.hub.runs import HubRun
from willis.shared.release import read_release

pytestmark = [pytest.mark.federation, pytest.mark.timeout(900)]

BAD = {
    "nan": "update-not-finite",
    "shape": "update-shape",
    "large": "update-norm",
    "again": "update-round",
    "slow": "deadline",
}
SITES = ("site-a", "site-b", "site-c", "site-d")


@dataclass(frozen=True)
class Told:
    """What one run left.

    Attributes:
        run: The hub's.
        repeated: What the hub said to each announcement that it had had already.
        federation: Which is down.
    """

    run: HubRun
    repeated: list[str]
    federation: Federation


@pytest.fixture(scope="module")
def told(tmp_path_factory, tiny_study_file_in, phantom_cohort_in) -> Told:
    """One run: site-b says all twice, site-c is bad in every round, site-d never agreed to the study."""
    folder = tmp_path_factory.mktemp("bad")
    sites = [{"name": name, "subjects": 6} for name in SITES]
    study = tiny_study_file_in(
        folder,
        training={"rounds": len(BAD)},
        federation={"quorum": 2, "deadline_s": 90, "sites": sites},
    )
    told = folder / "told.txt"
    federation = Federation(
        folder / "all",
        study,
        phantom_cohort_in(folder, subjects=6, sites=SITES),
        environments={
            "site-b": {"WILLIS_TEST_TAMPER": "answers_twice", "WILLIS_TEST_TOLD": str(told)},
            "site-c": {"WILLIS_TEST_TAMPER": "bad_answers", "WILLIS_TEST_BAD": " ".join(BAD)},
        },
        not_agreed=("site-d",),
    )
    with federation.alive():
        run = federation.finish(federation.start())
        return Told(run, told.read_text().split(), federation)


@pytest.mark.parametrize(("number", "how"), list(enumerate(BAD, start=1)))
def test_a_bad_answer_is_refused_by_its_code_and_the_round_goes_on(number, how, told):
    record = {record.round: record for record in told.run.rounds()}[number]
    assert record.merged
    assert record.answered == ("site-a", "site-b")
    assert record.refused == {"site-c": BAD[how], "site-d": "site-refuses"}


def test_an_answer_that_comes_twice_counts_once(told):
    assert len(told.repeated) >= len(BAD), "site-b repeated itself in every round"
    rows = told.federation.payments("site-b")
    assert [row.purpose.partition("/")[2] for row in rows] == [f"round-{n + 1}" for n in range(len(BAD))]


def test_a_study_that_a_site_did_not_agree_to_is_not_begun_there(told):
    site = told.federation.sites["site-d"]
    assert told.federation.payments("site-d") == []
    assert list(site.glob("runs/*")) == []
    left = [
        line
        for line in AuditLog(site / AUDIT_FILE).read()
        if line["event"] == "left" and line["type"] == "train"
    ]
    assert [line["refused"] for line in left] == ["site-refuses"] * len(BAD)


def test_the_release_is_there(told):
    assert len(told.run.rounds()) == len(BAD)
    assert read_release(told.run.release).spent.epsilon <= 8.0
