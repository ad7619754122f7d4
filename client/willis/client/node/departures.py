"""What leaves through the SuperNode: errors as codes, every reply counted before and after it goes.

It stands in for the state, the object store and the two calls that Flower's SuperNode sends with.
"""

import copy
import json
import logging
import time
from collections.abc import Callable
from typing import Any

from flwr.app import ConfigRecord, Error, Message
from flwr.common.constant import ErrorCode, Status
from flwr.supercore.inflatable.inflatable_object import (
    get_object_type_from_object_content,
    iterate_object_tree,
)

from willis.client.node.audit import AuditLog, Fact
from willis.shared.errors import WillisError

logger = logging.getLogger(__name__)

_PATIENCE_S = 30.0  # for the last bytes of an error on their way from the app's process
_MOST_HEADER = 8_192
_AT_WORK = (Status.PENDING, Status.STARTING, Status.RUNNING)

Insert = Callable[[Message, Any, Any], None]
Send = Callable[..., tuple[set[str], str]]
Push = Callable[..., None]


def word_of(code: int) -> str:
    """Return the word that stands for a Flower error outside the hospital; no text of it leaves."""
    names = {value: name for name, value in vars(ErrorCode).items() if isinstance(value, int)}
    return names.get(code, WillisError.code).lower().replace("_", "-")


class CodedState:
    """Flower's node state, whose error replies carry a code in place of their reason.

    A SuperNode waits for an answer to every message that it took, for ever. An app's process that was
    stopped, or killed before it had fetched its message, is counted as ended by Flower and leaves no answer:
    then one is made here, so that the hub may ask again.

    Args:
        state: Flower's.
        store: Flower's object store, where the error's bytes lie.
        insert: Flower's own way to store a reply.
        taken: The message that an answer is waited for; None where nothing is known of it.
    """

    def __init__(self, state: Any, store: Any, insert: Insert, *, taken: Message | None = None) -> None:
        self._state, self._store, self._insert, self._taken = state, store, insert, taken

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)

    def get_messages_legacy(self, **asked: Any) -> list[Message]:
        """Return messages as Flower does, each error's reason replaced by its code."""
        taken = self._taken
        # looked at first: an app's last answer is there before its task has ended
        over = taken is not None and not self._state.get_tasks(
            run_ids=[taken.metadata.run_id], statuses=_AT_WORK
        )
        found = self._state.get_messages_legacy(**asked)
        if taken is not None and over and not found:
            logger.error("the app's process ended without an answer; the hub is told, and may ask again")
            lost = Error(ErrorCode.CLIENT_APP_CRASHED, word_of(ErrorCode.CLIENT_APP_CRASHED))
            self._insert(Message(lost, reply_to=taken), self._state, self._store)
            found = self._state.get_messages_legacy(**asked)
        return [self._coded(message) for message in found]

    def _coded(self, message: Message) -> Message:
        if not message.has_error():
            return message
        word = word_of(message.error.code)
        coded = copy.copy(message)
        coded.__dict__["_metadata"] = copy.copy(message.metadata)
        coded.__dict__["_error"] = Error(message.error.code, word)
        old = message.metadata.message_id
        if message.error.reason != word:
            self._await(old)
            self._insert(coded, self._state, self._store)
            self._state.delete_messages(message_ids=[old])
            self._store.delete(old)
        return coded

    def _await(self, object_id: str) -> None:
        until = time.monotonic() + _PATIENCE_S
        while self._store.get(object_id) == b"" and time.monotonic() < until:
            time.sleep(0.1)


class Departures:
    """Counts one batch of replies on their way out; used in place of Flower's object store.

    A line ``leaving`` is on the disk before anything goes; ``left`` follows with bytes, and with the code of
    a refusal or the epsilon that the cohort has paid so far. Where no line can be written, nothing leaves.

    Args:
        store: Flower's object store.
        audit: The site's audit log.
        send: Flower's call that announces a reply.
        push: Flower's call that uploads one object of it.
    """

    def __init__(self, store: Any, audit: AuditLog, *, send: Send, push: Push) -> None:
        self._store, self._audit, self._send, self._push = store, audit, send, push
        self._leaving: dict[str, tuple[dict[str, Fact], list[str]]] = {}
        self._bytes = self._objects = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def send(self, message: Message, tree: Any, *rest: Any) -> tuple[set[str], str]:
        """Note that a reply is about to leave, then announce it."""
        about = message.metadata
        facts: dict[str, Fact] = {
            "run": str(about.run_id),
            "round": about.group_id,
            "type": about.message_type,
            "message": about.message_id,
        }
        self._audit.append("leaving", **facts)
        told: dict[str, Fact] = {"error": message.error.reason} if message.has_error() else {}
        identities = [one.object_id for one in iterate_object_tree(tree)]
        self._leaving[about.message_id] = ({**facts, **told}, identities)
        self._bytes = self._objects = 0
        # How long the site worked tells how many subjects it drew, so no time leaves with a reply.
        return self._send(message, tree, *(0.0 for _ in rest))

    def push(self, run: int, session: str, object_id: str, contents: bytes) -> None:
        """Count one object and upload it; what broke off on its way is counted too."""
        self._bytes += len(contents)
        self._objects += 1
        self._push(run, session, object_id, contents)

    def delete(self, object_id: str) -> None:
        """Note what left, as Flower forgets a reply, sent or not."""
        if object_id in self._leaving:
            facts, identities = self._leaving.pop(object_id)
            for identity in identities:
                facts |= facts_of(self._store.get(identity) or b"")
            self._audit.append("left", **facts, objects=self._objects, bytes=self._bytes)
        self._store.delete(object_id)


def facts_of(content: bytes) -> dict[str, Fact]:
    """Return what an object tells of a reply: the code of a refusal, or what the cohort has paid so far."""
    if not content or get_object_type_from_object_content(content) != "ConfigRecord":
        return {}
    record = ConfigRecord.inflate(content)
    if isinstance(record.get("refused"), str):
        return {"refused": str(record["refused"])}
    header = record.get("header")
    if not isinstance(header, str) or not 0 < len(header) <= _MOST_HEADER:
        return {}
    values = json.loads(header)
    return {"epsilon": values["spent"]["epsilon"], "ledger_head": values["ledger_head"]}
