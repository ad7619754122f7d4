"""The guarded SuperNode: only bundles on the site's list are ever unpacked, and all that leaves is counted.

Flower checks bundles by its hub's signatures, which an open hub cannot give. So three functions of its
SuperNode are replaced before it starts: the ones that fetch, verify and send. They are private to Flower;
where they are not as they were read, the guard does not start.

Example: python -m willis.client.node.guard --site site.toml -- --superlink hub.example:443 ...
"""

import hashlib
import importlib
import inspect
import logging
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

from flwr.app import Message
from flwr.supercore.constant import TaskType
from flwr.supercore.run import RunNotRunningException

from willis.client.node.audit import AUDIT_FILE, AuditLog
from willis.client.node.departures import CodedState, Departures
from willis.client.node.reentry import leave_if_there, remember
from willis.client.site import SiteSettings, read_site
from willis.client.wall import without_text
from willis.shared.bundle import bundle_digest
from willis.shared.errors import StateError, Unreachable, WillisError

logger = logging.getLogger(__name__)

_MODULE = "flwr.supernode.start_client_internal"
_AS_READ = {
    "_pull_and_store_message": (
        "state",
        "object_store",
        "node_config",
        "receive",
        "get_run",
        "get_fab",
        "pull_object",
        "confirm_message_received",
        "trusted_entities",
    ),
    "_push_messages": ("state", "object_store", "send", "push_object"),
    "_verify_fab": ("fab", "trusted_entities"),
    "_insert_message": ("msg", "state", "store"),
}
_SITE_ITSELF = {"site": "the bundles that site.toml allows"}  # not empty: else Flower verifies nothing


class Guard:
    """Stands between Flower's SuperNode and the hub.

    Args:
        site: Path of ``site.toml``; read again for every message, so that a changed list counts at once, for
            runs that were let in before too.
        audit: Where it is told.
        on_number: Called with the node's number, which the hub gave it, at every look for messages.
    """

    def __init__(
        self, site: Path, audit: AuditLog, *, on_number: Callable[[int], None] = lambda number: None
    ) -> None:
        self._site, self._audit, self._on_number = site, audit, on_number
        self._asked: tuple[str, int] = ("", 0)
        self._taken: Message | None = None

    def fetching(self, fetch: Callable[[str, int], Any]) -> Callable[[str, int], Any]:
        """Return Flower's call for a bundle, its answer ready to be verified by :meth:`allows`."""

        def fetch_marked(digest: str, run: int) -> Any:
            self._asked = (digest, run)
            fab = fetch(digest, run)
            fab.verifications = {"valid_license": "verified by the site"}
            return fab

        return fetch_marked

    def allows(self, fab: Any, trusted_entities: object = None) -> bool:
        """Whether a bundle is what it was asked for as, and on the site's list; a refusal is audited.

        Args:
            fab: Flower's bundle.
            trusted_entities: Flower's; the site asks nobody else.
        """
        digest = hashlib.sha256(fab.content).hexdigest()
        asked, run = self._asked
        if digest == fab.hash_str == asked:
            return self._on_the_list(digest, run=run)
        return self._refuse(digest, run=run)

    def looking_up(self, ask: Callable[[int], Any]) -> Callable[[int], Any]:
        """Return Flower's call for a run, which refuses every kind but runs of a ServerApp."""

        def ask_refusing(run: int) -> Any:
            about = ask(run)
            if about.primary_task_type != TaskType.SERVER_APP:
                self._audit.append("run-refused", run=str(run), kind=str(about.primary_task_type))
                raise RunNotRunningException
            return about

        return ask_refusing

    def receiving(self, receive: Callable[[], Any], state: Any) -> Callable[[], Any]:
        """Return Flower's call for a message, leaving aside those of runs whose bundle left the list."""

        def receive_refusing() -> Any:
            received = receive()
            self._taken = None if received is None else received[0]
            known = None if received is None else state.get_run(received[0].metadata.run_id)
            if known is not None and not self._on_the_list(known.fab_hash, run=known.run_id):
                return None
            return received

        return receive_refusing

    def _on_the_list(self, digest: str, *, run: int) -> bool:
        try:
            if digest in allowed_bundles(read_site(self._site)):
                return True
        except StateError as fault:
            logger.error("%s", without_text(fault))  # a site.toml that cannot be read allows nothing
        return self._refuse(digest, run=run)

    def _refuse(self, digest: str, *, run: int) -> bool:
        self._audit.append("bundle-refused", run=str(run), digest=digest)
        logger.error("bundle %s is not on the site's list; nothing of it is executed", digest[:12])
        return False

    def install(self, flower: ModuleType) -> None:
        """Replace what fetches, verifies and sends in Flower's SuperNode.

        Raises:
            Unreachable: This Flower is not the one that was read.
        """
        check_flower(flower)
        whole: Any = flower
        pull, push, insert = whole._pull_and_store_message, whole._push_messages, whole._insert_message

        def guarded_pull(*, get_fab: Any, get_run: Any, receive: Any, state: Any, **rest: Any) -> Any:
            rest["trusted_entities"] = _SITE_ITSELF
            self._on_number(state.get_node_id())
            return pull(
                get_fab=self.fetching(get_fab),
                get_run=self.looking_up(get_run),
                receive=self.receiving(receive, state),
                state=state,
                **rest,
            )

        def guarded_push(*, state: Any, object_store: Any, send: Any, push_object: Any) -> None:
            leaving = Departures(object_store, self._audit, send=send, push=push_object)
            push(
                state=CodedState(state, object_store, insert, taken=self._taken),
                object_store=leaving,
                send=leaving.send,
                push_object=leaving.push,
            )

        whole._pull_and_store_message = guarded_pull
        whole._push_messages = guarded_push
        whole._verify_fab = self.allows


def allowed_bundles(settings: SiteSettings) -> frozenset[str]:
    """Return the digests of the bundles that may run at a site."""
    return frozenset((bundle_digest(),) if settings.bundles is None else settings.bundles)


def check_flower(flower: ModuleType) -> None:
    """Refuse a Flower whose private functions are not the ones that the guard replaces.

    Raises:
        Unreachable: Naming the function.
    """
    for name, wanted in _AS_READ.items():
        function = getattr(flower, name, None)
        found = tuple(inspect.signature(function).parameters) if callable(function) else None
        if found != wanted:
            raise Unreachable(
                f"this Flower's {_MODULE}.{name} takes {found}, not {wanted}; install the version "
                "that Willis names, or no bundle can be refused"
            )


def main(arguments: Sequence[str]) -> None:
    """Run a guarded SuperNode until it is told to stop.

    Args:
        arguments: ``--site FILE -- ...``; what follows is for ``flower-supernode``.

    Raises:
        StateError: The words do not fit, or the site's settings are unfit.
        Unreachable: This Flower cannot be guarded.
    """
    if len(arguments) < 3 or arguments[0] != "--site" or arguments[2] != "--":
        raise StateError(f"call it with --site FILE -- and flower-supernode's words, got {arguments[:3]}")
    site = Path(arguments[1]).resolve()
    settings = read_site(site)
    allowed_bundles(settings)
    os.environ |= {"FLWR_TELEMETRY_ENABLED": "0", "FLWR_DISABLE_UPDATE_CHECK": "1"}
    flower = importlib.import_module(_MODULE)
    audit, on_number = AuditLog(site.parent / AUDIT_FILE), partial(remember, settings.state)
    Guard(site, audit, on_number=on_number).install(flower)
    leave_if_there(settings, site.parent)
    from flwr.supernode.cli.flower_supernode import flower_supernode

    sys.argv = ["flower-supernode", *arguments[3:]]
    flower_supernode()


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except WillisError as error:
        sys.exit(f"willis: {error}")
