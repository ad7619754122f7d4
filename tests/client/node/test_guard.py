"""The guard: which bundles are let in, what an error looks like outside, how replies are counted."""

import hashlib
import importlib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Error, Message, RecordDict
from flwr.supercore.fab import Fab
from flwr.supercore.object_store import ObjectStoreFactory
from flwr.supercore.run import RunNotRunningException
from flwr.supercore.task_identity import TaskIdentity
from flwr.supernode.nodestate import NodeStateFactory

from willis.client.node import guard as guard_module
from willis.client.node.audit import AuditLog
from willis.client.node.departures import Departures, word_of
from willis.client.node.guard import Guard, allowed_bundles, check_flower
from willis.client.site import read_site
from willis.shared.bundle import bundle_digest
from willis.shared.errors import StateError, Unreachable
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.update import SiteAnswer

PATIENT = "SURNAME_GIVEN_19470512"
SITE = 'name = "north"\ncohort = "cohort.csv"\nstate = "state"\nepsilon_cap = 3.0\ndelta = 1e-3\n'
FLOWER = importlib.import_module("flwr.supernode.start_client_internal")
CONTENT = b"a bundle"
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _task(monkeypatch):
    for name, value in (("_run_id", 7), ("_task_id", 1), ("_node_id", 1)):
        monkeypatch.setattr(TaskIdentity, name, value)


@pytest.fixture
def site(tmp_path: Path) -> Path:
    path = tmp_path / "site.toml"
    path.write_text(f'{SITE}bundles = ["{DIGEST}"]\n')
    return path


@pytest.fixture
def audit(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit.jsonl")


def fetched(guard: Guard, fab: Fab, *, asked: str = DIGEST) -> Fab:
    return guard.fetching(lambda digest, run: fab)(asked, 7)


def test_a_bundle_on_the_list_is_let_in(site, audit):
    guard = Guard(site, audit)
    assert guard.allows(fetched(guard, Fab(DIGEST, CONTENT, {})))
    assert audit.read() == []


@pytest.mark.parametrize(
    ("fab", "asked"),
    [
        (Fab(DIGEST, b"another bundle", {}), DIGEST),  # says it is the one, and is not
        (Fab(hashlib.sha256(b"other").hexdigest(), b"other", {}), hashlib.sha256(b"other").hexdigest()),
        (Fab(DIGEST, CONTENT, {}), "0" * 64),  # on the list, but not what the run names
        (Fab(DIGEST, b"forged", {"valid_license": "yes", "fpk_1": "{}"}), DIGEST),  # with the hub's blessing
    ],
    ids=["content", "unlisted", "not asked for", "blessed"],
)
def test_any_other_bundle_is_refused_and_audited(site, audit, fab, asked):
    guard = Guard(site, audit)
    assert not guard.allows(fetched(guard, fab, asked=asked), {"fpk_1": "ssh-ed25519 x"})
    (line,) = audit.read()
    assert (line["event"], line["run"]) == ("bundle-refused", "7")
    assert line["digest"] == hashlib.sha256(fab.content).hexdigest()


def test_a_list_that_changed_counts_at_once(site, audit):
    guard = Guard(site, audit)
    site.write_text(f'{SITE}bundles = ["{"0" * 64}"]\n')
    assert not guard.allows(fetched(guard, Fab(DIGEST, CONTENT, {})))


def test_without_a_list_the_installed_willis_alone_is_let_in(site):
    site.write_text(SITE)
    assert allowed_bundles(read_site(site)) == {bundle_digest()}


def test_flower_is_as_it_was_read():
    check_flower(FLOWER)


@pytest.mark.parametrize("name", guard_module._AS_READ)
def test_a_flower_that_was_renamed_or_changed_is_not_guarded(name, site, audit):
    for spoil in (lambda other: delattr(other, name), lambda other: setattr(other, name, lambda fab: True)):
        other = ModuleType("other")
        vars(other).update(vars(FLOWER))
        spoil(other)
        with pytest.raises(Unreachable, match=name):
            Guard(site, audit).install(other)


def test_the_guard_needs_a_site(site):
    for words in ([], ["--site", str(site)], ["--superlink", "hub:443", "--"]):
        with pytest.raises(StateError, match="--site FILE --"):
            guard_module.main(words)


class Node:
    """Flower's SuperNode as far as a reply goes: one state, one store, a hub that keeps what it gets."""

    def __init__(self, site: Path, audit: AuditLog) -> None:
        objects = ObjectStoreFactory()
        self.state, self.store = NodeStateFactory(objectstore_factory=objects).state(), objects.store()
        self.flower = ModuleType("flower")
        vars(self.flower).update(vars(FLOWER))
        Guard(site, audit).install(self.flower)
        self.announced: list[Message] = []
        self.times: list[float] = []
        self.objects: dict[str, bytes] = {}

    def reply(self, content: RecordDict | Error) -> None:
        asked = Message(RecordDict(), 1, "train", group_id="4")
        asked.metadata.__dict__["_message_id"] = "asked"
        FLOWER._insert_message(Message(content, reply_to=asked), self.state, self.store)  # pyright: ignore

    def push(self, *, known: frozenset[str] = frozenset()) -> None:
        def send(message, tree, runtime):
            self.announced.append(message)
            self.times.append(runtime)
            every = {one.object_id for one in FLOWER.iterate_object_tree(tree)}
            return every - known, "session"

        def push_object(run, session, object_id, contents):
            self.objects[object_id] = contents

        self.flower._push_messages(
            state=self.state, object_store=self.store, send=send, push_object=push_object
        )


@pytest.fixture
def node(site, audit) -> Node:
    return Node(site, audit)


def test_an_errors_text_never_leaves(node, audit):
    node.reply(Error(2, f"<class 'ValueError'>:<'cannot read {PATIENT}'>"))
    node.push()
    (message,) = node.announced
    assert (message.error.code, message.error.reason) == (2, "client-app-raised-exception")
    assert node.objects
    assert all(PATIENT.encode() not in content for content in node.objects.values())
    assert all(b"client-app-raised" in content for content in node.objects.values())
    assert PATIENT not in audit.path.read_text()
    assert audit.read()[-1]["error"] == "client-app-raised-exception"
    assert len(node.store) == 0  # nothing is left to be sent later
    assert node.state.get_messages_legacy(is_reply=True) == []


def test_a_refusal_is_counted_with_its_code(node, audit):
    node.reply(RecordDict({"wall": ConfigRecord({"refused": "budget"})}))
    node.push()
    leaving, left = audit.read()
    assert (leaving["event"], leaving["type"], leaving["round"]) == ("leaving", "train", "4")
    assert (left["event"], left["refused"]) == ("left", "budget")
    assert left["bytes"] == sum(map(len, node.objects.values()))
    assert left["objects"] == len(node.objects)


def test_an_answer_is_counted_with_what_was_paid_even_where_the_hub_has_its_parts(node, audit):
    spent = PrivacySpent(
        epsilon=1.25, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
    )
    answer = SiteAnswer(
        arrays={}, site="north", round=4, order_digest="0" * 64, spent=spent, ledger_head="ab"
    )
    header = ConfigRecord({"header": answer.header()})
    weights = ArrayRecord({"w": Array(np.ones(50, np.float32))})
    node.reply(RecordDict({"update": weights, "answer": header}))
    node.push(known=frozenset({header.object_id}))
    left = audit.read()[-1]
    assert (left["epsilon"], left["ledger_head"], left["run"]) == (1.25, "ab", "7")
    assert 200 < left["bytes"] == sum(map(len, node.objects.values()))


def test_how_long_the_site_worked_does_not_leave(node, monkeypatch):
    """Time grows with the number of subjects that were drawn."""
    node.reply(RecordDict({"hello": ConfigRecord({"site": "north"})}))
    monkeypatch.setattr(node.flower.time, "sleep", lambda seconds: None)
    node.push()
    assert node.times == [0.0]


def test_an_upload_that_broke_off_is_counted(audit):
    def broken(run, session, object_id, contents):
        raise ConnectionError

    leaving = Departures(None, audit, send=lambda *sent: (set(), ""), push=broken)
    with pytest.raises(ConnectionError):
        leaving.push(7, "session", "id", b"12345")
    assert (leaving._bytes, leaving._objects) == (5, 1)


class Known:
    """A state that knows run 7, of this bundle."""

    def __init__(self, digest: str = DIGEST) -> None:
        self._run = SimpleNamespace(run_id=7, fab_hash=digest)

    def get_run(self, run):
        return self._run if run == 7 else None


def test_a_run_that_was_let_in_is_left_aside_once_its_bundle_is_off_the_list(site, audit):
    message = SimpleNamespace(metadata=SimpleNamespace(run_id=7))
    receive = Guard(site, audit).receiving(lambda: (message, "tree"), Known())
    assert receive() == (message, "tree")
    site.write_text(f'{SITE}bundles = ["{"0" * 64}"]\n')
    assert receive() is None
    assert audit.read()[-1]["event"] == "bundle-refused"
    message.metadata.run_id = 8  # unknown yet: its bundle is asked for first
    assert receive() == (message, "tree")


def test_a_site_toml_that_cannot_be_read_allows_nothing_and_ends_nothing(site, audit):
    guard = Guard(site, audit)
    site.write_text("name = ")
    assert guard.allows(fetched(guard, Fab(DIGEST, CONTENT, {}))) is False


@pytest.mark.parametrize("kind", ["flwr-agentapp", "flwr-model", "flwr-simulation", ""])
def test_only_runs_of_a_serverapp_are_taken_part_in(site, audit, kind):
    def ask(run):
        return SimpleNamespace(primary_task_type=kind)

    guard = Guard(site, audit)
    with pytest.raises(RunNotRunningException):
        guard.looking_up(ask)(7)
    assert audit.read()[-1]["kind"] == kind
    assert guard.looking_up(lambda run: SimpleNamespace(primary_task_type="flwr-serverapp"))(7)


def test_what_cannot_be_audited_does_not_leave(node, audit):
    audit.path.mkdir()
    node.reply(RecordDict({"hello": ConfigRecord({"site": "north"})}))
    node.push()
    assert node.announced == []
    assert node.objects == {}


def test_an_unknown_error_is_internal():
    assert word_of(7) == "invalid-fab"
    assert word_of(4711) == "internal"
