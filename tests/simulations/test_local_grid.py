"""Flower's Grid in one process."""

import threading
import time

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.supercore.run import Run

from willis.simulations.local_grid import LocalGrid

PATIENT = "SURNAME_GIVEN_19470512"


def an_app(handle) -> ClientApp:
    app = ClientApp()
    app.train()(handle)
    return app


def ask(grid: LocalGrid, *nodes: int, ttl: float = 5.0, values=(1.0, 2.0)) -> list[str]:
    content = RecordDict({"w": ArrayRecord({"w": Array(np.array(values))})})
    return list(
        grid.push_messages([Message(content, node, "train", ttl=ttl, group_id="1") for node in nodes])
    )


def echo(message: Message, context: Context) -> Message:
    return Message(RecordDict({"me": ConfigRecord({"name": context.node_config["name"]})}), reply_to=message)


def named(*names: str) -> list[UserConfig]:
    return [{"name": name} for name in names]


def test_every_site_answers_its_own_message():
    grid = LocalGrid(an_app(echo), named("north", "south"))
    nodes = list(grid.get_node_ids())
    keys = ask(grid, *nodes)
    replies = {reply.metadata.reply_to_message_id: reply for reply in grid.pull_messages(keys)}
    assert [replies[key].content.config_records["me"]["name"] for key in keys] == ["north", "south"]
    assert [replies[key].metadata.src_node_id for key in keys] == nodes
    assert list(grid.pull_messages(keys)) == [], "each reply only once"


def test_arrays_are_copied_at_the_border():
    kept = []

    def scribble(message: Message, context: Context) -> Message:
        message.content.array_records["w"]["w"] = Array(np.zeros(2))
        reply = Message(message.content, reply_to=message)
        kept.append(reply)
        return reply

    grid = LocalGrid(an_app(scribble), named("north"))
    content = RecordDict({"w": ArrayRecord({"w": Array(np.ones(2))})})
    keys = grid.push_messages([Message(content, 2, "train", ttl=5.0)])
    (reply,) = grid.pull_messages(keys)
    np.testing.assert_array_equal(content.array_records["w"]["w"].numpy(), [1, 1])
    kept[0].content.array_records["w"]["w"] = Array(np.full(2, 7.0))
    np.testing.assert_array_equal(reply.content.array_records["w"]["w"].numpy(), [0, 0])


def test_a_site_that_raises_gives_an_error_reply_without_its_text():
    def crash(message: Message, context: Context) -> Message:
        raise FileNotFoundError(f"/pacs/{PATIENT}")

    grid = LocalGrid(an_app(crash), named("north"))
    (reply,) = grid.pull_messages(ask(grid, 2))
    assert reply.has_error()
    assert PATIENT not in repr(reply)
    (again,) = grid.pull_messages(ask(grid, 2))
    assert again.has_error(), "the worker is free again"


def test_one_worker_runs_the_sites_in_order():
    seen = []

    def note(message: Message, context: Context) -> Message:
        seen.append((context.node_config["name"], threading.current_thread() is threading.main_thread()))
        return echo(message, context)

    grid = LocalGrid(an_app(note), named("a", "b", "c"))
    ask(grid, 4, 2, 3)
    assert seen == [("c", True), ("a", True), ("b", True)]


def test_two_workers_run_two_sites_at_once():
    both = threading.Barrier(2, timeout=5)

    def meet(message: Message, context: Context) -> Message:
        both.wait()
        return echo(message, context)

    grid = LocalGrid(an_app(meet), named("a", "b"), workers=2)
    content = RecordDict()
    messages = [Message(content, node, "train", ttl=5.0) for node in (2, 3)]
    replies = list(grid.send_and_receive(messages, timeout=5))
    assert [reply.content.config_records["me"]["name"] for reply in replies] == ["a", "b"]


def test_one_site_never_runs_twice_at_once():
    inside = []

    def alone(message: Message, context: Context) -> Message:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.05)
        inside.pop()
        return echo(message, context)

    most: list[int] = []
    grid = LocalGrid(an_app(alone), named("a"), workers=2)
    assert len(list(grid.send_and_receive([Message(RecordDict(), 2, "train") for _ in range(3)]))) == 3
    assert max(most) == 1


@pytest.mark.parametrize("workers", [1, 2])
def test_what_comes_after_the_deadline_is_dropped(workers):
    def slow(message: Message, context: Context) -> Message:
        time.sleep(0.2)
        return echo(message, context)

    grid = LocalGrid(an_app(slow), named("a"), workers=workers)
    keys = ask(grid, 2, ttl=0.1)
    time.sleep(0.3)
    assert list(grid.pull_messages(keys)) == []
    assert len(list(grid.send_and_receive([Message(RecordDict(), 2, "train", ttl=5.0)]))) == 1


def test_a_sites_time_begins_when_its_turn_comes():
    def slow(message: Message, context: Context) -> Message:
        time.sleep(0.15)
        return echo(message, context)

    grid = LocalGrid(an_app(slow), named("a", "b", "c"))
    assert len(list(grid.pull_messages(ask(grid, 2, 3, 4, ttl=0.3)))) == 3


def test_waiting_ends_with_its_timeout():
    def slow(message: Message, context: Context) -> Message:
        time.sleep(0.4)
        return echo(message, context)

    grid = LocalGrid(an_app(slow), named("a"), workers=2)
    started = time.monotonic()
    assert list(grid.send_and_receive([Message(RecordDict(), 2, "train")], timeout=0.1)) == []
    assert time.monotonic() - started < 0.35


def test_the_grid_is_flowers():
    grid = LocalGrid(an_app(echo), named("a"), run_config={"study": "x"})
    grid.set_run(Run.create_empty(5))
    assert grid.run.run_id == 5
    assert grid.create_message(RecordDict(), "train", 2, "1", ttl=3.0).metadata.ttl == 3.0
    assert [node.node_id for node in grid.get_nodes()] == [2]


def test_no_workers_are_refused():
    with pytest.raises(ValueError, match="workers must be at least 1, got 0"):
        LocalGrid(an_app(echo), named("a"), workers=0)
