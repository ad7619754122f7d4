"""Flower's door of a hospital: translates messages, decides nothing. Whatever goes wrong leaves as a code."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, RecordDict
from flwr.clientapp import ClientApp

from willis.client import secure_round, training
from willis.client.held_order import held_arrays, hold
from willis.client.site import SiteSettings, read_site
from willis.client.wall import Refusal, wall
from willis.shared.errors import StateError, StudyError
from willis.shared.known_arrays import completed
from willis.shared.secure_sum.request import ORDERED, StepRequest
from willis.shared.settings import parse
from willis.shared.study import read_study
from willis.shared.update import RoundOrder, SiteAnswer

app = ClientApp()


@app.query("hello")
def hello(message: Message, context: Context) -> Message:
    """Answer with the site's name."""
    return _through_the_wall(
        message, lambda: RecordDict({"hello": ConfigRecord({"site": settings_of(context).name})})
    )


@app.train()
def train(message: Message, context: Context) -> Message:
    """Answer a round's order with the difference of the generator's weights."""
    return _through_the_wall(message, lambda: _pack(_train(message, settings_of(context))))


@app.train("secure")
def secure(message: Message, context: Context) -> Message:
    """Answer one step of a secure sum."""
    return _through_the_wall(message, lambda: _answer_step(message, settings_of(context)))


def settings_of(context: Context) -> SiteSettings:
    """Return the settings of the site that a context belongs to.

    A hospital's node names its ``site-settings`` file itself. Only in a simulation, where the machine holds
    every site, the node has a ``partition-id`` instead: its place in the study, and the run's configuration
    names the ``study`` and the folder ``sites``, with NAME/site.toml for each.

    Raises:
        StateError: The node says neither, or the file does not fit.
    """
    own = context.node_config.get("site-settings")
    if own is not None:
        return read_site(Path(str(own)))
    place, study, sites = (
        context.node_config.get("partition-id"),
        context.run_config.get("study"),
        context.run_config.get("sites"),
    )
    if place is None or study is None or sites is None:
        raise StateError("the node's configuration names no site-settings; set it to the path of site.toml")
    name = read_study(Path(str(study))).federation.sites[int(place)].name
    return read_site(Path(str(sites)) / name / "site.toml")


def _through_the_wall(message: Message, answer: Callable[[], RecordDict]) -> Message:
    try:
        with wall():
            return Message(answer(), reply_to=message)
    except Refusal as refusal:
        return Message(RecordDict({"wall": ConfigRecord({"refused": refusal.code})}), reply_to=message)


def _answer_step(message: Message, settings: SiteSettings) -> RecordDict:
    try:
        step = message.content.config_records["step"]
        request, payload = json.loads(str(step["request"])), step["payload"]
    except (KeyError, ValueError) as fault:
        raise StudyError("the message holds no step of a secure sum") from fault
    if not isinstance(payload, bytes):
        raise StudyError("a step's payload must be bytes")
    asked = parse(request, StepRequest, where="the step")
    order = _unpack(message, settings) if asked.step in ORDERED else None
    answer = secure_round.answer_step(asked, payload, order, settings)
    header = "" if answer.paid is None else answer.paid.header()
    return RecordDict({"answer": ConfigRecord({"payload": answer.payload, "header": header})})


def _train(message: Message, settings: SiteSettings) -> SiteAnswer:
    order = _unpack(message, settings)
    answer = training.train_round(order, settings)
    hold(_run_folder(order, settings), order.arrays)
    return answer


def _unpack(message: Message, settings: SiteSettings) -> RoundOrder:
    try:
        letter = message.content.config_records["order"]
        arrays = {name: value.numpy() for name, value in message.content.array_records["generator"].items()}
        order = RoundOrder.read(str(letter["header"]), arrays)
        kept = json.loads(str(letter.get("kept", "{}")))
    except (KeyError, ValueError, TypeError) as fault:
        raise StudyError("the message holds no order") from fault
    if not kept:
        return order
    return replace(order, arrays=completed(arrays, kept, held_arrays(_run_folder(order, settings))))


def _run_folder(order: RoundOrder, settings: SiteSettings) -> Path:
    return settings.state / "runs" / order.run


def _pack(answer: SiteAnswer) -> RecordDict:
    arrays = ArrayRecord({name: Array(value) for name, value in answer.arrays.items()})
    return RecordDict({"update": arrays, "answer": ConfigRecord({"header": answer.header()})})
