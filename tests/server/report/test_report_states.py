"""The report of a run that is not done, was scored for another release, or had another protocol."""

import re
from pathlib import Path
from typing import Any

import pytest
from harness.made_report import EVALUATION, STUDY, make_run, page_of, record_of, spent_of

from willis.server.checkpoint import add_metrics
from willis.server.report.page import read_run
from willis.shared.metrics.sheet import write_scores
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import write_release
from willis.shared.secure_sum.agreement import assumption
from willis.shared.study import read_study


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


@pytest.mark.parametrize(
    ("rounds", "left_out"), [(250, "50 earlier rounds are"), (201, "1 earlier round is")]
)
def test_many_rounds_are_cut_and_both_tables_say_so(tmp_path, rounds, left_out):
    html, page = page_of(make_run(tmp_path / "run", rounds=rounds, released=False, scored=False))
    for table, name in (("ledger", "The ledger"), ("table-rounds", "What happened in")):
        numbers = [line[0] for line in page.tables[table][1:] if line[0] != "Budget"]
        assert numbers == [str(number) for number in range(rounds - 199, rounds + 1)]
        before = html[: html.index(f'id="{table}"')]
        assert f"{left_out} left out here; metrics.jsonl holds them all." in before[before.rindex("<h") :]
        assert re.search(rf"<summary>{name},? the last 200 of {rounds} rounds</summary>", html)
    assert f"the table below has the numbers of the last 200 of {rounds} rounds." in page.told()


def test_all_of_200_rounds_are_there_and_none_is_said_to_lack(tmp_path):
    html, page = page_of(make_run(tmp_path / "run", rounds=200, released=False, scored=False))
    assert len(page.tables["table-rounds"]) == 1 + 200
    assert "<summary>The ledger, 200 rounds</summary>" in html
    assert "left out" not in page.told()


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
        assert told.count(assumed) == 6  # the network's figure and both sites', on the page and in its card
    assert ("ASSUMING" in told) == secure
    assert ("added up by secure aggregation: the coordinator saw their total alone" in told) == secure
    assert (
        "at most 1 of the 2 or more sites in a sum tell the coordinator their own share" in told
    ) == secure
    assert ('id="assumed"' in html) == secure


def test_the_protocol_local_is_told(pages):
    assert "Recipe dp-wgan, protocol local: each site trained from the global generator" in pages[1].told()
    assert "secure" not in pages[1].told()
