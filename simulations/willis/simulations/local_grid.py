"""Flower's Grid in one process: the same ServerApp and ClientApp, without a network."""

import copy
import itertools
import threading
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import wait as wait_for

from flwr.app import Context, Error, Message, RecordDict, UserConfig
from flwr.clientapp import ClientApp
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid
from flwr.supercore.date import now
from flwr.supercore.run import Run
from flwr.supercore.task_identity import TaskIdentity

_RUN_ID = 1
_SERVER = 1  # node ids of the sites follow


class LocalGrid(Grid):
    """Runs every site's app in this process.

    A site's time begins when its turn comes, not while it waits for a worker. What a site answers after
    its deadline is dropped; the site itself cannot be stopped. An app that raises gives an error reply
    without text.

    Args:
        app: The sites' app.
        nodes: One node's configuration for every site.
        run_config: The run's configuration, as all apps see it.
        workers: 1 runs each site inside :meth:`push_messages`, in the order of pushing; more use threads.
    """

    def __init__(
        self,
        app: ClientApp,
        nodes: Iterable[UserConfig],
        *,
        run_config: Mapping[str, bool | float | int | str] | None = None,
        workers: int = 1,
    ) -> None:
        if not workers >= 1:
            raise ValueError(f"workers must be at least 1, got {workers}")
        TaskIdentity.run_id, TaskIdentity.task_id, TaskIdentity.node_id = _RUN_ID, 1, _SERVER
        self._app = app
        self._contexts = {
            number: Context(_RUN_ID, number, dict(config), RecordDict(), dict(run_config or {}))
            for number, config in enumerate(nodes, start=_SERVER + 1)
        }
        self._locks = {number: threading.Lock() for number in self._contexts}
        self._replies: dict[str, Future[Message | None]] = {}
        self._keys = itertools.count(1)
        self._free = threading.BoundedSemaphore(workers)
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="site") if workers > 1 else None
        self._run = Run.create_empty(_RUN_ID)

    def set_run(self, run: Run) -> None:
        """Set the run."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """Make a message."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Return the sites' nodes, in the order in which they were given."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Hand messages to their sites; returns their ids."""
        return [self._hand_over(copy.deepcopy(message)) for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are there; each only once."""
        ready = [key for key in message_ids if key in self._replies and self._replies[key].done()]
        replies = [self._replies.pop(key).result() for key in ready]
        return [copy.deepcopy(reply) for reply in replies if reply is not None]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """Push, wait for all sites or the timeout in seconds, and pull."""
        keys = list(self.push_messages(messages))
        until = None if timeout is None else now().timestamp() + timeout
        for key in keys:
            left = None if until is None else max(0.0, until - now().timestamp())
            wait_for([self._replies[key]], timeout=left)
        return self.pull_messages(keys)

    def _hand_over(self, message: Message) -> str:
        key = str(next(self._keys))
        vars(message.metadata)["_message_id"] = key  # as Flower's own grids do
        self._free.acquire()
        message.metadata.created_at = now().timestamp()
        if self._pool is not None:
            self._replies[key] = self._pool.submit(self._answer, message)
        else:
            self._replies[key] = Future()
            self._replies[key].set_result(self._answer(message))
        return key

    def _answer(self, message: Message) -> Message | None:
        node = message.metadata.dst_node_id
        try:
            with self._locks[node]:
                reply = self._app(message, self._contexts[node])
        except Exception:
            reply = Message(Error(ErrorCode.CLIENT_APP_RAISED_EXCEPTION), reply_to=message)
        finally:
            self._free.release()
        late = now().timestamp() > message.metadata.created_at + message.metadata.ttl
        return None if late else reply
