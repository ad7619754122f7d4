"""Which node of Flower's Grid is which site, and how the grid is waited on."""

import logging
import time
from collections.abc import Iterator, Mapping

from flwr.app import Message, RecordDict
from flwr.serverapp import Grid

from willis.shared.study import Study

logger = logging.getLogger(__name__)

_PAUSES = (0.01, 2.0)  # seconds between two looks at the grid: first and longest


class RollCall:
    """Which node is which site: a registered name where the grid has one, else the node's own word.

    A node of an unknown name, of another name than it is registered under, or of a name whose node is still
    there, is turned away.

    Attributes:
        nodes: Node of every site that is there.
        strangers: Code for every node turned away.
    """

    def __init__(self, grid: Grid, study: Study) -> None:
        self.nodes: dict[str, int] = {}
        self.strangers: dict[int, str] = {}
        self._rivals: dict[int, str] = {}  # node turned away for a name that another node has
        self._grid = grid
        self._known = {site.name for site in study.federation.sites}
        self._patience = study.federation.deadline_s
        self._asked: dict[str, tuple[int, float]] = {}  # message: node, when it is given up

    def look(self) -> None:
        """Ask new nodes for their name, take in the names that came; does not wait."""
        registered = {node.node_id: node.name for node in self._grid.get_nodes()}
        self.nodes = {site: node for site, node in self.nodes.items() if node in registered}
        gone = {node for node, name in self._rivals.items() if name not in self.nodes}
        self._rivals = {node: name for node, name in self._rivals.items() if node not in gone}
        self.strangers = {n: code for n, code in self.strangers.items() if n in registered and n not in gone}
        self._asked = {key: item for key, item in self._asked.items() if item[1] > time.monotonic()}
        settled = {*self.nodes.values(), *self.strangers, *(node for node, _ in self._asked.values())}
        for node in sorted(set(registered) - settled):
            hello = Message(RecordDict(), node, "query.hello", ttl=self._patience, group_id="0")
            for key in push(self._grid, hello):
                self._asked[key] = (node, time.monotonic() + self._patience)
        for reply in self._grid.pull_messages(list(self._asked)) if self._asked else ():
            node, _ = self._asked.pop(reply.metadata.reply_to_message_id, (None, 0.0))
            if node is not None:
                self._enter(node, _name_in(reply), registered=registered.get(node, ""))

    def wait(self, seconds: float, *, even_if_full: bool = False) -> None:
        """Look until every site is there (or not even then), or the time is over."""
        for _ in looks(time.monotonic() + seconds):
            self.look()
            if len(self.nodes) == len(self._known) and not even_if_full:
                return

    def _enter(self, node: int, name: str | None, *, registered: str) -> None:
        if name is None:
            self.strangers[node] = "unreadable"
        elif name not in self._known:
            self.strangers[node] = "unknown-site"
        elif registered and registered != name:
            self.strangers[node] = "other-name"
        elif self.nodes.setdefault(name, node) != node:
            self.strangers[node] = "duplicate-site"
            self._rivals[node] = name


def looks(until: float) -> Iterator[None]:
    """Yield at growing intervals, and once when the time is over: a reply may have come meanwhile."""
    pause, longest = _PAUSES
    while True:
        left = until - time.monotonic()
        yield
        if left <= 0:
            return
        time.sleep(max(0.0, min(pause, until - time.monotonic())))
        pause = min(1.5 * pause, longest)


def exchange(
    grid: Grid,
    letters: Mapping[str, RecordDict],
    *,
    nodes: Mapping[str, int],
    kind: str,
    number: int,
    deadline_s: float,
) -> Iterator[tuple[str, Message | str]]:
    """Send every site its letter; yield each site with its reply, or with the code of why there is none.

    Args:
        letters: By site.
        nodes: Node of each of these sites.
        kind: Type of the messages.
        number: Of the round.
        deadline_s: Seconds that a site has.
    """
    left: dict[str, str] = {}
    sent = time.monotonic()
    for site in sorted(letters):
        message = Message(letters[site], nodes[site], kind, ttl=deadline_s, group_id=str(number))
        keys = push(grid, message)
        left |= dict.fromkeys(keys, site)
        if not keys:
            yield site, "lost"
    for _ in looks(time.monotonic() + deadline_s):
        for reply in grid.pull_messages(list(left)) if left else ():
            site = left.pop(reply.metadata.reply_to_message_id, None)
            if site is None:
                logger.warning("round %d: a reply to no open order was left aside", number)
            elif reply.has_error() and time.monotonic() - sent >= deadline_s:
                yield site, "deadline"  # Flower's own word that the letter has expired
            else:
                yield site, reply
        if not left:
            return
    yield from ((site, "deadline") for site in left.values())


def push(grid: Grid, message: Message) -> list[str]:
    """Send one message; grids drop what they cannot deliver, so its id comes alone or not at all."""
    return [key for key in grid.push_messages([message]) if key]


def _name_in(reply: Message) -> str | None:
    try:
        name = reply.content["hello"]["site"]  # pyright: ignore[reportArgumentType]
    except (KeyError, ValueError, TypeError):
        return None
    return name if isinstance(name, str) else None
