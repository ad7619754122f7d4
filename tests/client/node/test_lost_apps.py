"""An app's process that ended without an answer: the hub is told, once, and the site goes on."""

import importlib

import pytest
from flwr.app import Message, RecordDict
from flwr.common.constant import SubStatus
from flwr.supercore.constant import TaskType
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from willis.client.node.departures import CodedState

FLOWER = importlib.import_module("flwr.supernode.start_client_internal")
CORE = importlib.import_module("flwr.supercore.corestate.in_memory_corestate")
RUN = 7


class Node:
    """Flower's own state, which took one message and made a task for it."""

    def __init__(self) -> None:
        objects = ObjectStoreFactory()
        self.state, self.store = NodeStateFactory(objectstore_factory=objects).state(), objects.store()
        self.state.set_node_id(1)
        self.taken = Message(RecordDict(), 1, "train", group_id="4")
        self.taken.metadata.__dict__["_message_id"] = "taken"
        self.taken.metadata.__dict__["_run_id"] = RUN
        self.state.store_message(self.taken)
        task = self.state.create_task(task_type=TaskType.CLIENT_APP, run_id=RUN, fab_hash="0" * 64)
        assert task is not None
        self.task = task
        self.coded = CodedState(self.state, self.store, FLOWER._insert_message, taken=self.taken)

    def answers(self) -> list[Message]:
        return list(self.coded.get_messages_legacy(is_reply=True))


@pytest.fixture
def node(monkeypatch) -> Node:
    for name, value in (("_run_id", RUN), ("_task_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)
    return Node()


def is_lost(message: Message) -> bool:
    return message.has_error() and message.error.reason == "client-app-crashed"


def test_an_app_that_is_starting_or_at_work_is_waited_for(node):
    assert node.answers() == []
    assert node.state.claim_task(node.task)
    assert node.answers() == []
    assert node.state.activate_task(node.task)
    assert node.answers() == []


def test_an_app_that_was_stopped_is_told_as_lost_once(node):
    """As Flower's app does on SIGTERM: it ends its task, and cannot send its answer any more."""
    node.state.claim_task(node.task)
    node.state.activate_task(node.task)
    assert node.state.finish_task(node.task, SubStatus.FAILED, "Task stopped.")
    (lost,) = node.answers()
    assert is_lost(lost)
    assert lost.metadata.reply_to_message_id == "taken"
    assert lost.metadata.group_id == "4"


def test_an_app_that_was_killed_before_it_fetched_its_message_is_told_as_lost(node, monkeypatch):
    assert node.state.claim_task(node.task)
    monkeypatch.setattr(CORE, "HEARTBEAT_PATIENCE", -1)  # its heartbeats stay away
    assert node.state.activate_task(node.task)
    (lost,) = node.answers()
    assert is_lost(lost)


def test_an_answer_that_is_there_is_the_answer(node):
    node.state.claim_task(node.task)
    node.state.activate_task(node.task)
    answer = Message(RecordDict(), reply_to=node.taken)
    FLOWER._insert_message(answer, node.state, node.store)
    assert node.state.finish_task(node.task, SubStatus.COMPLETED, "")
    (found,) = node.answers()
    assert not found.has_error()


def test_without_a_known_message_nothing_is_made_up(node):
    node.state.claim_task(node.task)
    node.state.finish_task(node.task, SubStatus.FAILED, "")
    plain = CodedState(node.state, node.store, FLOWER._insert_message)
    assert plain.get_messages_legacy(is_reply=True) == []
