"""The wall: an error leaves the hospital as a code; its text goes nowhere, not even to the log."""

import json
import logging
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from willis.shared.errors import WillisError

logger = logging.getLogger(__name__)


class Refusal(Exception):
    """What is left of an error outside the wall; its text is its code.

    Attributes:
        code: One of :data:`willis.shared.update.REFUSAL_CODES`.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@contextmanager
def wall() -> Iterator[None]:
    """Turn whatever goes wrong inside into a :class:`Refusal`.

    The local log gets one line of JSON: the code, the error's type, and where in the code it was raised;
    never its text, which may name a patient. The refusal has no cause and suppresses its context: it prints
    and pickles as the code alone.

    Raises:
        Refusal: With the code of a :class:`~willis.shared.errors.WillisError`, else with ``internal``.
    """
    code = None
    try:
        yield
    except WillisError as error:
        logger.error("%s", without_text(error))
        code = error.code
    except (Exception, SystemExit) as error:
        logger.error("%s", without_text(error))
        code = WillisError.code
    if code is not None:
        raise Refusal(code) from None


def without_text(error: BaseException) -> str:
    """Return an error as JSON without a word of its text: code, types along its causes, lines of code."""
    code = error.code if isinstance(error, WillisError) else WillisError.code
    kinds, places, seen = [], [], error
    while seen is not None and len(kinds) < 8:
        kinds.append(type(seen).__name__)
        places += [_place(frame) for frame in traceback.extract_tb(seen.__traceback__)[-3:]]
        seen = seen.__cause__
    return json.dumps({"refused": code, "error": kinds, "at": places})


def _place(frame: traceback.FrameSummary) -> str:
    return f"{'/'.join(Path(frame.filename).parts[-3:])}:{frame.lineno}"
