"""Decode in a process of its own: a codec that a damaged file ends, or holds for ever, ends nothing else.

gdcm's JPEG decoder calls ``terminate`` on some damaged code streams; no ``except`` catches that.
"""

import multiprocessing
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any, ParamSpec, TypeVar

from pydicom import uid

from willis.shared.processes import end_with_parent

P = ParamSpec("P")
T = TypeVar("T")

PATIENCE_S = 120.0
_STOP = None
_READ_HERE = frozenset(
    {
        uid.ImplicitVRLittleEndian, uid.ExplicitVRLittleEndian, uid.ExplicitVRBigEndian,
        uid.DeflatedExplicitVRLittleEndian,
    }
)  # fmt: skip


class DecoderLost(Exception):
    """The process that decoded ended, or was ended for it took too long; and says no more."""


def is_coded(syntax: str) -> bool:
    """Return whether a codec decodes the pixels of a transfer syntax."""
    return syntax not in _READ_HERE


class Apart:
    """Calls functions in another process, one at a time; a lost process is replaced by the next call.

    Args:
        patience_s: Seconds that one call may take.
    """

    def __init__(self, *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._process: BaseProcess | None = None
        self._pipe: Connection | None = None

    def __enter__(self) -> "Apart":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __call__(self, function: Callable[P, T], *args: P.args, **rest: P.kwargs) -> T:
        """Return what a function returns, or raise what it raises.

        Args:
            function: Of a module; arguments, result and exceptions travel by pickle.

        Raises:
            DecoderLost: The process ended before it answered, or took too long.
        """
        pipe = self._pipe or self._begin()
        try:
            pipe.send((function, args, rest))
            if not pipe.poll(self._patience_s):
                self.close(kill=True)
                raise DecoderLost(f"no answer within {self._patience_s:g} s")
            went_well, told = pipe.recv()
        except (EOFError, OSError):  # BrokenPipeError and ConnectionResetError are OSErrors
            self.close(kill=True)
            raise DecoderLost("the decoder ended") from None
        if not went_well:
            raise told
        return told

    def close(self, *, kill: bool = False) -> None:
        """End the process."""
        process, pipe, self._process, self._pipe = self._process, self._pipe, None, None
        if process is None or pipe is None:
            return
        if kill:
            process.kill()
        else:
            pipe.send(_STOP)
        process.join()
        pipe.close()

    def _begin(self) -> Connection:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=_answer, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        return self._pipe


def _answer(pipe: Connection) -> None:
    end_with_parent()
    while (asked := pipe.recv()) is not _STOP:
        function, args, rest = asked
        try:
            told: tuple[bool, Any] = (True, function(*args, **rest))
        except Exception as fault:
            told = (False, fault)
        pipe.send(told)
