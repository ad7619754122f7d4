"""What a hub's answer means to whoever asked: which of Willis' errors, and whether to ask again."""

from collections.abc import Iterable
from typing import Any, cast

import grpc

from willis.shared.errors import ReleaseError, Unreachable, WillisError

VERSION = 1
RETRY_AFTER = "willis-retry-after-ms"  # in the trailing metadata: the hub is busy, ask again then
_MOST_TEXT = 500
_PASSING = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED, grpc.StatusCode.ABORTED})
_REFUSED = frozenset(
    {
        grpc.StatusCode.UNAUTHENTICATED,
        grpc.StatusCode.PERMISSION_DENIED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
)
_UNFIT = frozenset(
    {
        grpc.StatusCode.NOT_FOUND,
        grpc.StatusCode.INVALID_ARGUMENT,
        grpc.StatusCode.OUT_OF_RANGE,
        grpc.StatusCode.FAILED_PRECONDITION,
    }
)
_WRONG_PARTY = ("CERTIFICATE_VERIFY_FAILED", "Hostname Verification Check failed", "WRONG_VERSION_NUMBER")


class CollectionRefused(WillisError):
    """The hub says no: who asks is not invited, or asks for more than its limits."""

    code = "collection"


def retry_after_s(fault: grpc.RpcError) -> float | None:
    """Return how long to wait before the same is asked again; None where that would not help.

    Returns:
        Seconds; 0 where the hub named no time.
    """
    status, text = _status(fault), _text(fault)
    if any(word in text for word in _WRONG_PARTY):
        return None
    if status in _PASSING or (status is grpc.StatusCode.INTERNAL and "RST_STREAM" in text):
        return 0.0
    if status is not grpc.StatusCode.RESOURCE_EXHAUSTED:
        return None
    if "Concurrent RPC limit exceeded" in text:  # gRPC's own words, before the hub saw the call
        return 0.0
    told = [str(value) for key, value in _trailing(fault) if key == RETRY_AFTER]
    if not told or not told[0].isdecimal():
        return None
    return min(int(told[0][:9]) / 1000, 120.0)


def _trailing(fault: grpc.RpcError) -> list[tuple[str, str | bytes]]:
    """Return the trailing metadata of a call; gRPC's types know one of its two forms."""
    if not isinstance(fault, grpc.Call):
        return []
    return [(key, value) for key, value in cast(Iterable[Any], fault.trailing_metadata() or ())]


def error_of(fault: grpc.RpcError, *, address: str, token: bool) -> WillisError:
    """Return Willis' error for a call that failed.

    Args:
        address: Of the hub.
        token: Whether a token was the proof.
    """
    status, text = _status(fault), _text(fault)
    if any(word in text for word in _WRONG_PARTY):
        return Unreachable(
            f"{address} does not show the certificate of the kit's hub ({text}); nothing was sent to it; ask "
            "the hub for its address and another kit"
        )
    if status in _REFUSED:
        return CollectionRefused(f"the hub at {address} refuses: {text}")
    if status in _UNFIT:
        return ReleaseError(f"the hub at {address} cannot answer that: {text}")
    proof = "" if token else "; a certificate that it does not accept looks like this too"
    return Unreachable(f"no answer of the hub at {address} ({status.name}: {text}){proof}")


def _status(fault: grpc.RpcError) -> grpc.StatusCode:
    code = fault.code() if isinstance(fault, grpc.Call) else None
    return code if isinstance(code, grpc.StatusCode) else grpc.StatusCode.UNKNOWN


def _text(fault: grpc.RpcError) -> str:
    """Return what the other side said, fit for a terminal."""
    told = (fault.details() if isinstance(fault, grpc.Call) else None) or "without a word"
    return "".join(sign if sign.isprintable() else " " for sign in told[:_MOST_TEXT])
