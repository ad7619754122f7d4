"""How a hub says no to a collector: a status of gRPC and one clear sentence; nothing of its own inside."""

import logging
from collections.abc import Callable, Iterator
from typing import NoReturn, TypeVar

import grpc

from willis.shared.collection.refusal import RETRY_AFTER

logger = logging.getLogger(__name__)
Request = TypeVar("Request")
Answer = TypeVar("Answer")


class Refused(Exception):
    """What is asked cannot be.

    Attributes:
        status: Of gRPC.
        retry_s: When the same may be asked again, seconds; None where that would not help.
    """

    def __init__(self, status: grpc.StatusCode, sentence: str, *, retry_s: float | None = None) -> None:
        self.status, self.retry_s = status, retry_s
        super().__init__(sentence)


def invalid(sentence: str) -> Refused:
    """Return the refusal of a request that never fits."""
    return Refused(grpc.StatusCode.INVALID_ARGUMENT, sentence)


def busy(sentence: str, *, retry_s: float) -> Refused:
    """Return the refusal of a request that fits later."""
    return Refused(grpc.StatusCode.RESOURCE_EXHAUSTED, sentence, retry_s=retry_s)


def answered(context: grpc.ServicerContext, answer: Callable[[Request], Answer], request: Request) -> Answer:
    """Return an answer; what is refused leaves as its status and sentence, a fault as one without a word."""
    try:
        return answer(request)
    except Refused as refused:
        _abort(context, refused)
    except Exception:
        _fail(context)


def streamed(
    context: grpc.ServicerContext, answer: Callable[[Request], Iterator[Answer]], request: Request
) -> Iterator[Answer]:
    """Yield the messages of an answer; as :func:`answered`."""
    try:
        yield from answer(request)
    except Refused as refused:
        _abort(context, refused)
    except Exception:
        if context.is_active():  # else who asked has left
            _fail(context)


def _abort(context: grpc.ServicerContext, refused: Refused) -> NoReturn:
    if refused.retry_s is not None:
        context.set_trailing_metadata(((RETRY_AFTER, str(int(1000 * refused.retry_s) + 1)),))
    context.abort(refused.status, str(refused))
    raise AssertionError("abort returned")


def _fail(context: grpc.ServicerContext) -> NoReturn:
    logger.exception("a call failed")
    context.abort(grpc.StatusCode.INTERNAL, "the hub failed; its log says why")
    raise AssertionError("abort returned")
