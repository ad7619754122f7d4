"""A site's own memory between rounds: critic, optimisers and the answers given; never sent anywhere.

One file a round holds both the state after the round and the answer it gave, written in one atomic step:
either the round happened, with its answer kept to be sent again, or it did not.
"""

import fcntl
import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from willis.shared.errors import StateError
from willis.shared.whole_file import make_folder, write_whole

_KEPT = 2  # files of past rounds: enough to answer the last order again


@dataclass(frozen=True)
class SiteState:
    """What one round left behind.

    Attributes:
        round: The round, from 1.
        order_digest: Of the order it answered.
        reservation: The ledger's row that paid for it.
        ledger_head: The ledger's last hash then.
        networks: State dicts by name: critic, and both optimisers.
        answer: The answer's arrays by name, as tensors.
    """

    round: int
    order_digest: str
    reservation: int
    ledger_head: str
    networks: dict[str, Any]
    answer: dict[str, torch.Tensor]


class SiteMemory:
    """The files of one run at one site.

    Attributes:
        folder: The site's folder of this run; made where missing, and on the disk before a round is.

    Raises:
        StateError: It cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            make_folder(folder, mode=0o700)
        except OSError as fault:
            raise StateError(f"cannot make the site's folder {folder}: {fault.strerror}") from fault

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the run for one round; a late round that is asked for again waits, and finds its answer.

        Raises:
            StateError: The folder cannot be written.
        """
        try:
            file = (self.folder / "lock").open("w")
        except OSError as fault:
            raise StateError(f"cannot write the site's folder {self.folder}: {fault.strerror}") from fault
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def last_before(self, number: int) -> int:
        """Return the newest round before this one that left a state, 0 where none did."""
        rounds = (int(path.stem.removeprefix("round-")) for path in self.folder.glob("round-*.pt"))
        return max((past for past in rounds if past < number), default=0)

    def at(self, number: int) -> SiteState | None:
        """Return what a round left, or None where it never ended.

        Raises:
            StateError: Its file is damaged.
        """
        path = self._path(number)
        if not path.exists():
            return None
        try:
            return SiteState(**torch.load(path, map_location="cpu", weights_only=True))
        except Exception as fault:
            raise StateError(
                f"the site's state {path} is damaged ({type(fault).__name__}); restore it from a backup, or "
                "begin a new run: the ledger keeps what was spent"
            ) from fault

    def fingerprint(self, number: int) -> str:
        """Return the digest of a round's file; of nothing where there is none."""
        path = self._path(number)
        return hashlib.sha256(path.read_bytes() if path.exists() else b"").hexdigest()

    def keep(self, state: SiteState) -> None:
        """Write a round's state and answer; the earlier files stand until this one is whole.

        Raises:
            StateError: The disk is full or not writable; nothing changed.
        """
        whole = io.BytesIO()  # torch tells a full disk as an error of its own, so the file is written here
        torch.save(vars(state), whole)
        path = self._path(state.round)
        # on the disk before the ledger settles and wipes the key
        write_whole(path, whole.getvalue(), private=True)
        others = sorted(old for old in self.folder.glob("round-*.pt") if old != path)
        for old in others[: 1 - _KEPT]:
            old.unlink()

    def _path(self, number: int) -> Path:
        return self.folder / f"round-{number:06d}.pt"
