"""No text of an error leaves the hospital, by any door."""

import json
import logging
import pickle
import traceback
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.supercore.task_identity import TaskIdentity

from willis.client import app as door
from willis.client.site import SiteSettings, read_site
from willis.client.wall import Refusal, wall
from willis.shared.errors import BudgetExhausted, CohortError, SiteRefused, StateError
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.study import Study
from willis.shared.update import REFUSAL_CODES, RoundOrder, SiteAnswer

PATIENT = "SURNAME_GIVEN_19470512"
SITE = 'name = "north"\ncohort = "cohort.csv"\nstate = "state"\nepsilon_cap = 3.0\ndelta = 1e-3\n'
STUDY = {
    "name": "tiny",
    "patch": {"size": (16, 16), "per_subject": 16},
    "prior": {"family": "organ"},
    "networks": {"depth": 3},
    "privacy": {"epsilon": 3.0, "delta": 1e-3, "unit": "subject", "sampling_rate": 0.5},
    "training": {"rounds": 1, "critic_steps": 5},
    "federation": {
        "sites": [{"name": "south", "subjects": 9}, {"name": "north", "subjects": 9}],
        "quorum": 1,
    },
}

SPENT = PrivacySpent(
    epsilon=1.0, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)


@pytest.fixture(autouse=True)
def _task(monkeypatch):
    for name, value in (("_run_id", 1), ("_task_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


@pytest.fixture
def site(tmp_path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(SITE)
    return path


def a_context(node=None, run=None) -> Context:
    return Context(1, 2, node or {}, RecordDict(), run or {})


def an_order() -> RoundOrder:
    return RoundOrder(
        study_json="{}", study_digest="0" * 64, run="run-1", round=1, arrays={"w": np.ones(2, np.float32)}
    )


def an_order_message() -> Message:
    arrays = ArrayRecord({name: Array(value) for name, value in an_order().arrays.items()})
    content = RecordDict({"generator": arrays, "order": ConfigRecord({"header": an_order().header()})})
    return Message(content, 2, "train")


def everything_in(message: Message) -> bytes:
    """All that would travel, and all that is shown of it."""
    parts = [message.deflate(), repr(message).encode()]
    for record in message.content.values():
        parts += [record.deflate(), repr(record).encode()]
    return b"".join(parts)


ERRORS = [
    (CohortError(f"/pacs/{PATIENT}/tof.nii.gz has no label", [f"{PATIENT}: empty"]), "cohort"),
    (SiteRefused(f"too few subjects without {PATIENT}"), "site-refuses"),
    (BudgetExhausted(PATIENT), "budget"),
    (StateError(PATIENT), "state"),
    (FileNotFoundError(2, "No such file", f"/pacs/{PATIENT}/tof.nii.gz"), "internal"),
    (KeyError(PATIENT), "internal"),
    (MemoryError(PATIENT), "internal"),
    (SystemExit(f"cannot go on with {PATIENT}"), "internal"),
    (RecursionError(PATIENT), "internal"),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda item: type(item).__name__)
def test_an_error_becomes_its_code_and_its_text_goes_nowhere(error, code, caplog):
    with caplog.at_level(logging.ERROR), pytest.raises(Refusal) as caught, wall():
        raise error
    refusal = caught.value
    assert refusal.code == str(refusal) == code
    assert code in REFUSAL_CODES
    shown = "".join(traceback.format_exception_only(refusal)) + repr(refusal) + repr(pickle.dumps(refusal))
    assert PATIENT not in shown
    assert PATIENT not in caplog.text
    line = json.loads(caplog.records[-1].getMessage())
    assert (line["refused"], line["error"]) == (code, [type(error).__name__])
    assert line["at"][-1].startswith("tests/client/test_wall.py:")


def test_the_printed_traceback_of_a_refusal_tells_no_text():
    with pytest.raises(Refusal) as caught, wall():
        Path(f"/nowhere/{PATIENT}").read_bytes()
    assert caught.value.__cause__ is None
    assert PATIENT not in "".join(traceback.format_exception(caught.value))


def test_the_log_tells_an_errors_causes_by_type(caplog):
    error = StateError(PATIENT)
    error.__cause__ = KeyError(PATIENT)
    with caplog.at_level(logging.ERROR), pytest.raises(Refusal), wall():
        raise error
    assert json.loads(caplog.records[-1].getMessage())["error"] == ["StateError", "KeyError"]
    assert PATIENT not in caplog.text


def test_nothing_wrong_passes():
    with wall():
        value = 3
    assert value == 3


def test_a_person_can_still_interrupt():
    with pytest.raises(KeyboardInterrupt), wall():
        raise KeyboardInterrupt


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda item: type(item).__name__)
def test_no_text_of_an_exception_is_in_the_reply(site, monkeypatch, error, code):
    def trainer(order, settings):
        raise error

    monkeypatch.setattr(door.training, "train_round", trainer)
    reply = door.app(an_order_message(), a_context({"site-settings": str(site)}))
    assert not reply.has_error()
    assert dict(reply.content.config_records["wall"]) == {"refused": code}
    assert list(reply.content) == ["wall"]
    assert PATIENT.encode() not in everything_in(reply)
    assert str(site).encode() not in everything_in(reply)


@pytest.mark.parametrize("asked", ["train", "query.hello"])
def test_no_path_of_a_missing_site_file_is_in_the_reply(tmp_path, asked):
    message = an_order_message() if asked == "train" else Message(RecordDict(), 2, asked)
    reply = door.app(message, a_context({"site-settings": str(tmp_path / PATIENT / "site.toml")}))
    assert reply.content.config_records["wall"]["refused"] == "state"
    assert PATIENT.encode() not in everything_in(reply)


def test_a_message_that_holds_no_order_is_refused(site):
    reply = door.app(Message(RecordDict(), 2, "train"), a_context({"site-settings": str(site)}))
    assert reply.content.config_records["wall"]["refused"] == "study"


def test_the_door_hands_the_order_in_and_the_answer_out(site, monkeypatch):
    seen = {}

    def trainer(order: RoundOrder, settings: SiteSettings) -> SiteAnswer:
        seen["digest"], seen["state"] = order.digest(), settings.state
        return SiteAnswer(
            arrays={"w": order.arrays["w"] * 2},
            site=settings.name,
            round=order.round,
            order_digest=order.digest(),
            spent=SPENT,
            ledger_head="ab",
        )

    monkeypatch.setattr(door.training, "train_round", trainer)
    reply = door.app(an_order_message(), a_context({"site-settings": str(site)}))
    arrays = {name: value.numpy() for name, value in reply.content.array_records["update"].items()}
    answer = SiteAnswer.read(str(reply.content.config_records["answer"]["header"]), arrays)
    assert seen == {"digest": an_order().digest(), "state": site.parent / "state"}
    assert (answer.site, answer.spent, answer.order_digest) == ("north", SPENT, an_order().digest())
    np.testing.assert_array_equal(answer.arrays["w"], [2, 2])


def test_an_answer_that_does_not_fit_its_header_is_not_sent(site, monkeypatch):
    def trainer(order: RoundOrder, settings: SiteSettings) -> SiteAnswer:
        digest = "0" * 64
        return SiteAnswer(
            arrays={}, site=PATIENT, round=1, order_digest=digest, spent=SPENT, ledger_head=PATIENT
        )

    monkeypatch.setattr(door.training, "train_round", trainer)
    reply = door.app(an_order_message(), a_context({"site-settings": str(site)}))
    assert reply.content.config_records["wall"]["refused"] == "update"
    assert PATIENT.encode() not in everything_in(reply)


def test_hello_says_the_name(site):
    reply = door.app(Message(RecordDict(), 2, "query.hello"), a_context({"site-settings": str(site)}))
    assert dict(reply.content.config_records["hello"]) == {"site": "north"}


def test_in_a_simulation_the_place_in_the_study_tells_which_site(tmp_path):
    study = tmp_path / "study.toml"
    study.write_text(toml_of(STUDY))
    folder = tmp_path / "sites" / "north"
    folder.mkdir(parents=True)
    (folder / "site.toml").write_text(SITE)
    context = a_context({"partition-id": 1}, {"study": str(study), "sites": str(folder.parent)})
    assert door.settings_of(context).state == folder / "state"


def test_a_hub_cannot_name_the_sites_folder_of_a_hospital(tmp_path):
    context = a_context({}, {"study": "study.toml", "sites": str(tmp_path)})
    with pytest.raises(StateError, match="site-settings"):
        door.settings_of(context)


def test_site_settings_are_whole(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('name = "North"\nepsilon_cap = -1\ndelta = 2\nmore = 1\n')
    with pytest.raises(StateError) as caught:
        read_site(path)
    keys = {problem.split(":")[0] for problem in caught.value.problems}
    assert keys == {"name", "cohort", "state", "epsilon_cap", "delta", "more"}


@pytest.mark.parametrize(
    ("law", "told"),
    [
        ({}, None),
        ({"epsilon_cap": 2.9}, "privacy.epsilon is 3, the site allows at most 2.9"),
        ({"delta": 1e-4}, "privacy.delta"),
        ({"max_update_norm": 99.0}, "federation.update_norm"),
        ({"name": "west"}, 'no site "west"'),
        ({"studies": ("0" * 64,)}, "agreed"),
        ({"studies": (Study.model_validate(STUDY).digest(),)}, None),
    ],
)
def test_a_site_refuses_a_study_beyond_its_law(site, law, told):
    settings = read_site(site).model_copy(update=law)
    if told is None:
        settings.check_study(Study.model_validate(STUDY))
        return
    with pytest.raises(SiteRefused, match=told):
        settings.check_study(Study.model_validate(STUDY))


def test_where_a_site_keeps_its_things(site):
    settings = read_site(site)
    assert settings.cohort == site.parent / "cohort.csv"
    assert settings.store.parent == settings.ledger.parent == site.parent / "state"


def toml_of(values: dict) -> str:
    """Write a study as TOML: JSON's scalars and lists are TOML's, tables are inline."""

    def inline(value) -> str:
        if isinstance(value, dict):
            return "{" + ", ".join(f"{key} = {inline(item)}" for key, item in value.items()) + "}"
        if isinstance(value, list | tuple):
            return "[" + ", ".join(map(inline, value)) + "]"
        return json.dumps(value)

    return "\n".join(f"{key} = {inline(value)}" for key, value in values.items())
