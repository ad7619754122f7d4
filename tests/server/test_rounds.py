"""The round loop, on a grid in process, with stand-ins for the sites."""

import json
import time
from collections.abc import Callable

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from willis.server import checkpoint as disk
from willis.server.ledger import SpendingBook
from willis.server.rounds import run_rounds
from willis.shared.errors import QuorumMissed
from willis.shared.known_arrays import completed
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.study import Study
from willis.shared.update import RoundOrder, SiteAnswer, digest
from willis.simulations.local_grid import LocalGrid

Reply = RecordDict | SiteAnswer
Behaviour = Callable[[RoundOrder], Reply]
PATIENT = "SURNAME_GIVEN_19470512"
INITIAL = {"w": np.array([1.0, -1.0], np.float32), "n": np.array(3)}
TARGETS = {"east": 2.0, "north": 4.0, "south": 6.0}
MUTE = RecordDict()


def a_study(**federation) -> Study:
    plan = {
        "sites": [{"name": name, "subjects": 20, "weight": 1.0} for name in TARGETS],
        "quorum": 2,
        "deadline_s": 5.0,
    }
    return Study.model_validate(
        {
            "name": "tiny",
            "patch": {"size": (16, 16), "per_subject": 16},
            "prior": {"family": "organ"},
            "networks": {"depth": 3},
            "privacy": {"epsilon": 3.0, "delta": 1e-3, "unit": "subject", "sampling_rate": 0.5},
            "training": {"rounds": federation.pop("rounds", 3), "critic_steps": 5, "ema": 0.5},
            "federation": plan | federation,
        }
    )


def answer(site: str, order: RoundOrder, **changes) -> SiteAnswer:
    """Half the way from the model to the site's target."""
    spent = PrivacySpent(
        epsilon=0.5 * order.round,
        delta=1e-3,
        unit=PrivacyUnit.SUBJECT,
        relation=Relation.ADD_OR_REMOVE,
        accountant="pld",
    )
    arrays = {"w": ((TARGETS[site] - order.arrays["w"]) / 2).astype(np.float32)}
    fields = {"arrays": arrays, "site": site, "round": order.round, "order_digest": order.digest()}
    return SiteAnswer(**(fields | {"spent": spent, "ledger_head": "ab"} | changes))


def a_grid(names=tuple(TARGETS), grid: type[LocalGrid] = LocalGrid, **behaviours: Behaviour) -> LocalGrid:
    """A grid whose sites answer soundly, but for those with a behaviour of their own."""
    app, held = ClientApp(), {}

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        return Message(
            RecordDict({"hello": ConfigRecord({"site": context.node_config["site"]})}), reply_to=message
        )

    @app.train()
    def train(message: Message, context: Context) -> Message:
        site = str(context.node_config["site"])
        arrays = {name: value.numpy() for name, value in message.content.array_records["generator"].items()}
        letter = message.content.config_records["order"]
        held[site] = completed(arrays, json.loads(str(letter["kept"])), held.get(site, {}))
        order = RoundOrder.read(str(letter["header"]), held[site])
        reply = behaviours[site](order) if site in behaviours else answer(site, order)
        return Message(packed(reply) if isinstance(reply, SiteAnswer) else reply, reply_to=message)

    return grid(app, [{"site": name} for name in names])


def packed(reply: SiteAnswer) -> RecordDict:
    arrays = ArrayRecord({name: Array(value) for name, value in reply.arrays.items()})
    return RecordDict({"update": arrays, "answer": ConfigRecord({"header": reply.header()})})


def run(grid, study, folder, *, resume=False, on_round=None) -> disk.Checkpoint:
    return run_rounds(
        grid, study, folder=folder, initial=INITIAL, resume=resume, on_round=on_round, patience_s=0.0
    )


def rows(folder) -> list[dict]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def refusing(code: str) -> Behaviour:
    return lambda order: RecordDict({"wall": ConfigRecord({"refused": code})})


def test_rounds_by_hand(tmp_path):
    # Every round moves half the way to the mean target 4: 1 -> 2.5 -> 3.25 -> 3.625;
    # the average moves half the way to that: 1 -> 1.75 -> 2.5 -> 3.0625.
    told = []
    state = run(a_grid(), a_study(), tmp_path, on_round=told.append)
    assert state.model["w"][0] == np.float32(3.625)
    assert state.released["w"][0] == np.float32(3.0625)
    assert state.model["n"] == 3
    assert [row["round"] for row in rows(tmp_path)] == [1, 2, 3]
    assert rows(tmp_path)[0]["norms"]["east"] == pytest.approx(np.hypot(0.5, 1.5))
    assert rows(tmp_path)[2]["spent"]["north"]["epsilon"] == 1.5
    assert [record.round for record in told] == [1, 2, 3]
    assert SpendingBook(tmp_path / "server" / "spending.jsonl").latest()["south"].epsilon == 1.5
    assert digest(disk.load(tmp_path / "server", study_digest=a_study().digest()).model) == digest(
        state.model
    )


def test_weights_are_the_studys(tmp_path):
    sites = [{"name": n, "subjects": 20, "weight": w} for n, w in zip(TARGETS, (1, 1, 2), strict=True)]
    state = run(a_grid(), a_study(sites=sites, rounds=1), tmp_path)
    # 1 + (0.5 + 1.5 + 2 * 2.5) / 4
    assert state.model["w"][0] == np.float32(2.75)


def changed(values, kind: type[np.floating] = np.float32) -> Behaviour:
    return lambda order: answer("south", order, arrays={"w": np.array(values, kind)})


def tampered(**fields) -> Behaviour:
    """An answer whose header says something else than it should."""

    def reply(order: RoundOrder) -> RecordDict:
        content = packed(answer("south", order))
        header = json.loads(answer("south", order).header()) | fields
        content["answer"] = ConfigRecord({"header": json.dumps(header)})
        return content

    return reply


def pickled(order: RoundOrder) -> RecordDict:
    content = packed(answer("south", order))
    content["update"] = ArrayRecord(
        {"w": Array(dtype="object", shape=(1,), stype="numpy.ndarray", data=b"\x80\x04cos\nsystem\n.")}
    )
    return content


BAD = {
    "nan": (changed([np.nan, 0]), "update-not-finite"),
    "inf": (changed([np.inf, 0]), "update-not-finite"),
    "shape": (changed([1, 2, 3]), "update-shape"),
    "dtype": (changed([1, 2], np.float64), "update-dtype"),
    "name": (
        lambda order: answer("south", order, arrays={"v": np.zeros(2, np.float32)}),
        "update-names",
    ),
    "norm": (changed([1e4, 0]), "update-norm"),
    "pickle": (pickled, "update-unreadable"),
    "nothing": (lambda order: MUTE, "update-unreadable"),
    "header": (tampered(spent=None), "update-unreadable"),
    "other-site": (tampered(site="north"), "update-site"),
    "other-round": (tampered(round=7), "update-round"),
    "other-order": (tampered(order_digest="c" * 64), "update-order"),
    "too-few-subjects": (refusing("site-refuses"), "site-refuses"),
    "budget": (refusing("budget"), "budget"),
    "code-with-a-patient": (refusing(PATIENT), "unreadable"),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_left_out_and_recorded_and_the_run_goes_on(tmp_path, case):
    behaviour, code = BAD[case]
    state = run(a_grid(south=behaviour), a_study(), tmp_path)
    # The two others: half the way to their mean 3: 1 -> 2 -> 2.5 -> 2.75
    assert state.model["w"][0] == np.float32(2.75)
    assert [row["refused"] for row in rows(tmp_path)] == [{"south": code}] * 3
    assert [row["answered"] for row in rows(tmp_path)] == [["east", "north"]] * 3


def test_what_a_site_spent_is_kept_even_where_its_update_does_not_count(tmp_path):
    run(a_grid(south=changed([np.nan, 0])), a_study(), tmp_path)
    assert SpendingBook(tmp_path / "server" / "spending.jsonl").latest()["south"].epsilon == 1.5


def test_below_quorum_nothing_is_merged(tmp_path):
    grid = a_grid(south=refusing("site-refuses"), east=refusing("budget"))
    with pytest.raises(QuorumMissed, match=r"1 sound.*east \(budget\), south \(site-refuses\)"):
        run(grid, a_study(), tmp_path)
    state = disk.load(tmp_path / "server", study_digest=a_study().digest())
    assert state.round == 0
    assert digest(state.model) == digest(INITIAL)
    assert [row["merged"] for row in rows(tmp_path)] == [False]


def slow(site: str, seconds: float) -> Behaviour:
    def reply(order: RoundOrder) -> Reply:
        time.sleep(seconds)
        return answer(site, order)

    return reply


def test_a_site_slower_than_the_deadline_is_left_out(tmp_path):
    started = time.monotonic()
    state = run(a_grid(south=slow("south", 0.3)), a_study(deadline_s=0.2, rounds=1), tmp_path)
    assert state.model["w"][0] == np.float32(2.0)
    assert rows(tmp_path)[0]["refused"] == {"south": "deadline"}
    assert time.monotonic() - started < 3


def test_the_silent_are_asked_once_more_with_the_same_order(tmp_path):
    seen: list[str] = []

    def sleepy(order: RoundOrder) -> Reply:
        seen.append(order.digest())
        return slow("south", 0.3 if len(seen) == 1 else 0.0)(order)

    run(a_grid(south=sleepy), a_study(deadline_s=0.2, rounds=1, quorum=3), tmp_path)
    assert len(seen) == 2
    assert len(set(seen)) == 1
    assert rows(tmp_path)[0]["refused"] == {}


def test_those_who_said_no_are_not_asked_again(tmp_path):
    seen: list[int] = []

    def no(order: RoundOrder) -> Reply:
        seen.append(order.round)
        return refusing("site-refuses")(order)

    with pytest.raises(QuorumMissed):
        run(a_grid(south=no), a_study(quorum=3), tmp_path)
    assert seen == [1]


class StutteringGrid(LocalGrid):
    """Gives every reply twice, and all earlier ones again."""

    past: list[Message]

    def pull_messages(self, message_ids):
        fresh = list(super().pull_messages(message_ids))
        self.past = [*getattr(self, "past", []), *fresh, *fresh]
        return list(self.past)


def test_stale_and_duplicate_replies_are_left_aside(tmp_path):
    state = run(a_grid(grid=StutteringGrid), a_study(), tmp_path)
    assert state.model["w"][0] == np.float32(3.625)


class LosingGrid(LocalGrid):
    """Cannot deliver to the last site."""

    def push_messages(self, messages):
        kept = list(messages)
        if kept[0].metadata.message_type == "train" and kept[0].metadata.dst_node_id == 4:
            return []
        return super().push_messages(kept)


def test_an_order_that_cannot_be_delivered(tmp_path):
    run(a_grid(grid=LosingGrid), a_study(rounds=1), tmp_path)
    assert rows(tmp_path)[0]["refused"] == {"south": "lost"}


def test_an_absent_site(tmp_path):
    run(a_grid(names=("east", "north")), a_study(rounds=1, deadline_s=0.2), tmp_path)
    assert rows(tmp_path)[0]["refused"] == {"south": "absent"}


def test_an_apps_exception_tells_nothing(tmp_path, caplog):
    def crash(order: RoundOrder) -> Reply:
        raise FileNotFoundError(f"/pacs/{PATIENT}/tof.nii.gz")

    run(a_grid(south=crash), a_study(), tmp_path)
    assert rows(tmp_path)[0]["refused"] == {"south": "lost"}
    kept = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert PATIENT.encode() not in kept
    assert PATIENT not in caplog.text


def test_an_initial_model_that_is_not_finite_is_refused(tmp_path):
    bad = INITIAL | {"w": np.array([np.nan], np.float32)}
    with pytest.raises(ValueError, match="finite"):
        run_rounds(a_grid(), a_study(), folder=tmp_path, initial=bad)
