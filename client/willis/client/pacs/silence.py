"""Keep the words of the network libraries to themselves: they quote names, UIDs and whole data sets."""

import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from pynetdicom import _config

_TALKERS = ("pynetdicom", "pydicom", "httpx", "httpcore")
_logger = logging.getLogger(__name__)


@contextmanager
def quietly() -> Iterator[None]:
    """Pass no text of pynetdicom, pydicom or httpx on, for as long as the block lasts.

    Guarantees:
        No record of their loggers reaches a handler, no warning is printed, and a thread that ends with an
        exception tells its type alone.
    """
    loggers = [logging.getLogger(name) for name in _TALKERS]
    before = [(one.level, one.propagate, list(one.handlers)) for one in loggers]
    hook = threading.excepthook
    switches = (_config.LOG_REQUEST_IDENTIFIERS, _config.LOG_RESPONSE_IDENTIFIERS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _config.LOG_REQUEST_IDENTIFIERS = _config.LOG_RESPONSE_IDENTIFIERS = False
        threading.excepthook = _tell_type
        for one in loggers:
            one.handlers[:] = [logging.NullHandler()]
            one.propagate = False
            one.setLevel(logging.WARNING)
        try:
            yield
        finally:
            threading.excepthook = hook
            _config.LOG_REQUEST_IDENTIFIERS, _config.LOG_RESPONSE_IDENTIFIERS = switches
            for one, (level, propagate, handlers) in zip(loggers, before, strict=True):
                one.handlers[:] = handlers
                one.propagate = propagate
                one.setLevel(level)


def _tell_type(fault: threading.ExceptHookArgs) -> None:
    if not sys.is_finalizing():
        _logger.error("a connection's thread ended with %s", fault.exc_type.__name__)
