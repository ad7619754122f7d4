"""The wall: an error leaves the hospital as a code, its text stays in the local log."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

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

    The error itself goes to the local log with its traceback. The refusal has no cause and suppresses its
    context: it prints and pickles as the code alone.

    Raises:
        Refusal: With the code of a :class:`~willis.shared.errors.WillisError`, else with ``internal``.
    """
    code = None
    try:
        yield
    except WillisError as error:
        logger.exception("refused: %s", error.code)
        code = error.code
    except (Exception, SystemExit):
        logger.exception("refused: internal")
        code = WillisError.code
    if code is not None:
        raise Refusal(code) from None
