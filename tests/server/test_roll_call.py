"""Which node is which site."""

import time

import pytest
from flwr.app import ConfigRecord, Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.proto.node_pb2 import NodeInfo

from willis.server.letters import refusal_in
from willis.server.roll_call import exchange
from willis.server.rounds import RollCall
from willis.shared.study import Study
from willis.simulations.local_grid import LocalGrid

STUDY = Study.model_validate(
    {
        "name": "tiny",
        "patch": {"size": (16, 16), "per_subject": 16},
        "prior": {"family": "organ"},
        "networks": {"depth": 3},
        "privacy": {"epsilon": 3.0, "delta": 1e-3, "unit": "subject", "sampling_rate": 0.5},
        "training": {"rounds": 1, "critic_steps": 5},
        "federation": {
            "sites": [{"name": name, "subjects": 20} for name in ("east", "north", "south")],
            "quorum": 2,
            "deadline_s": 0.2,
        },
    }
)
asked: list[object] = []


class ChangingGrid(LocalGrid):
    """Nodes can be away, and can be registered under a name. Their ids count from 2."""

    away: frozenset[int] = frozenset()
    registered: tuple[str, ...] = ()

    def get_node_ids(self):
        return [node for node in super().get_node_ids() if node not in self.away]

    def get_nodes(self):
        names = dict(enumerate(self.registered, start=2))
        return [NodeInfo(node_id=node, name=names.get(node, "")) for node in self.get_node_ids()]


def a_grid(*claims: str | int) -> ChangingGrid:
    app = ClientApp()
    asked.clear()

    @app.query("hello")
    def hello(message: Message, context: Context) -> Message:
        asked.append(context.node_config["claim"])
        content = RecordDict({"hello": ConfigRecord({"site": context.node_config["claim"]})})
        if context.node_config["claim"] == "mute":
            content = RecordDict({"wall": ConfigRecord({"refused": "state"})})
        return Message(content, reply_to=message)

    nodes: list[UserConfig] = [{"claim": claim} for claim in claims]
    return ChangingGrid(app, nodes)


def test_names_are_taken_in():
    roll = RollCall(a_grid("south", "east", "north"), STUDY)
    roll.wait(1.0)
    assert roll.nodes == {"south": 2, "east": 3, "north": 4}
    assert roll.strangers == {}


@pytest.mark.parametrize(
    ("claim", "code"),
    [("mallory", "unknown-site"), ("north", "duplicate-site"), (7, "unreadable"), ("mute", "unreadable")],
)
def test_strangers_and_impostors_are_turned_away_and_asked_once(claim, code):
    roll = RollCall(a_grid("east", "north", claim), STUDY)
    for _ in range(3):
        roll.look()
    assert roll.nodes == {"east": 2, "north": 3}
    assert roll.strangers == {4: code}
    assert len(asked) == 3


def test_a_registered_name_is_stronger_than_a_word():
    grid = a_grid("east", "north", "south")
    grid.registered = ("east", "north", "mallory")
    roll = RollCall(grid, STUDY)
    roll.look()
    assert roll.nodes == {"east": 2, "north": 3}
    assert roll.strangers == {4: "other-name"}


def test_a_site_that_comes_back_as_another_node_is_known_again():
    grid = a_grid("east", "north", "south", "south")
    grid.away = frozenset({5})
    roll = RollCall(grid, STUDY)
    roll.look()
    assert roll.nodes["south"] == 4
    grid.away = frozenset({4})
    roll.look()
    assert roll.nodes["south"] == 5


def test_an_impostor_is_asked_again_once_the_name_is_free():
    grid = a_grid("east", "north", "south", "south")
    roll = RollCall(grid, STUDY)
    roll.look()
    assert roll.strangers == {5: "duplicate-site"}
    grid.away = frozenset({4})
    roll.look()
    assert roll.nodes["south"] == 5
    assert roll.strangers == {}


def test_waiting_for_a_site_that_never_comes_ends():
    roll = RollCall(a_grid("east"), STUDY)
    roll.wait(0.1)
    assert roll.nodes == {"east": 2}


class DeafGrid(ChangingGrid):
    """Loses the first hello."""

    heard = 0

    def push_messages(self, messages):
        self.heard += 1
        return [] if self.heard == 1 else super().push_messages(messages)


def test_a_hello_that_was_lost_is_said_again():
    app = a_grid("east")._app
    roll = RollCall(DeafGrid(app, [{"claim": "east"}]), STUDY)
    roll.look()
    assert roll.nodes == {}
    roll.look()
    assert roll.nodes == {"east": 2}


class ExpiringGrid(ChangingGrid):
    """Answers every letter with an error of Flower's, after a time, as SuperLink does of one that expired."""

    after_s: float = 0.0

    def pull_messages(self, message_ids):
        if time.monotonic() - self.began < self.after_s:
            return []
        letters, self.letters = self.letters, []
        return [Message(Error(3, "no such message"), reply_to=letter) for letter in letters]

    def push_messages(self, messages):
        self.began, self.letters = time.monotonic(), list(messages)
        for number, letter in enumerate(self.letters):
            letter.metadata.__dict__["_message_id"] = str(number + 1)
        return [letter.metadata.message_id for letter in self.letters]


@pytest.mark.parametrize(("after_s", "code"), [(0.0, "lost"), (0.21, "deadline")])
def test_a_letter_that_expired_is_a_missed_deadline_and_no_loss(after_s, code):
    grid = ExpiringGrid(ClientApp(), [{"claim": "east"}])
    grid.after_s = after_s
    asked = {"letters": {"east": RecordDict()}, "nodes": {"east": 2}, "kind": "train", "number": 1}
    ((site, told),) = exchange(grid, **asked, deadline_s=0.2)
    assert site == "east"
    assert (told if isinstance(told, str) else refusal_in(told)) == code
