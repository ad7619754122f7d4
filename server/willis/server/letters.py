"""What travels in Flower's messages between coordinator and site: packed here, and read without trust."""

import json
from types import MappingProxyType

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict

from willis.server.admission import Reason, UnsoundUpdate
from willis.shared.errors import UpdateRefused
from willis.shared.known_arrays import Digests, what_changed
from willis.shared.secure_sum.request import ORDERED, StepRequest
from willis.shared.update import REFUSAL_CODES, RoundOrder, SiteAnswer


def packed(order: RoundOrder, *, known: Digests = MappingProxyType({})) -> RecordDict:
    """Return the letter that asks for a round's answer.

    Args:
        order: The round's.
        known: Digests of the arrays that the site has already, by name; those do not travel.
    """
    changed, kept = what_changed(order.arrays, known)
    arrays = ArrayRecord({name: Array(value) for name, value in changed.items()})
    words = ConfigRecord({"header": order.header(), "kept": json.dumps(kept)})
    return RecordDict({"generator": arrays, "order": words})


def packed_step(request: StepRequest, payload: bytes, order: RoundOrder) -> RecordDict:
    """Return the letter that asks for one step of a secure sum."""
    letter = packed(order) if request.step in ORDERED else RecordDict()
    letter["step"] = ConfigRecord({"request": request.model_dump_json(), "payload": payload})
    return letter


def answer_in(reply: Message) -> SiteAnswer | str:
    """Return the answer in a reply, or the code it was refused with.

    Raises:
        UnsoundUpdate: It cannot be read.
    """
    code = refusal_in(reply)
    if code is not None:
        return code
    try:
        header = reply.content.config_records["answer"]["header"]
        arrays = {name: value.numpy() for name, value in reply.content.array_records["update"].items()}
        return SiteAnswer.read(header, arrays)  # pyright: ignore[reportArgumentType]
    except UpdateRefused as fault:
        raise UnsoundUpdate(Reason.UNREADABLE, str(fault)) from fault
    except Exception as fault:  # bytes from outside may break the reader in any way
        raise UnsoundUpdate(Reason.UNREADABLE, f"cannot be read ({type(fault).__name__})") from fault


def step_answer_in(reply: Message) -> tuple[bytes, SiteAnswer | None] | str:
    """Return a step's payload, and what the site has paid where it says so; or the code of its refusal.

    Raises:
        UnsoundUpdate: It cannot be read.
    """
    code = refusal_in(reply)
    if code is not None:
        return code
    try:
        answer = reply.content.config_records["answer"]
        payload, header = answer["payload"], answer["header"]
    except (KeyError, ValueError, TypeError) as fault:
        raise UnsoundUpdate(Reason.UNREADABLE, f"cannot be read ({type(fault).__name__})") from fault
    if not (isinstance(payload, bytes) and isinstance(header, str)):
        raise UnsoundUpdate(Reason.UNREADABLE, "a step's answer must be bytes and text")
    try:
        return payload, SiteAnswer.read(header, {}) if header else None
    except UpdateRefused as fault:
        raise UnsoundUpdate(Reason.UNREADABLE, str(fault)) from fault


def refusal_in(reply: Message) -> str | None:
    """Return the code of a reply that is no answer; None where it may be one."""
    if reply.has_error():
        return "lost"
    wall = reply.content.config_records.get("wall")
    if wall is None:
        return None
    code = wall.get("refused")
    return code if isinstance(code, str) and code in REFUSAL_CODES else "unreadable"
