"""Read a ``multipart/related`` answer part by part, as it comes, with bounded memory."""

from collections.abc import Iterable, Iterator
from email.message import Message
from email.parser import BytesParser
from email.policy import HTTP

_MOST_HEADER_BYTES = 64 * 1024


class MultipartError(ValueError):
    """The answer is no sound ``multipart/related``; its text says which part of its form is wrong."""


def boundary_of(content_type: str) -> bytes:
    """Return what divides the parts.

    Raises:
        MultipartError: The content type is another, or names none.
    """
    message = Message()
    message["content-type"] = content_type
    boundary = message.get_boundary()
    if message.get_content_maintype() != "multipart" or not boundary:
        raise MultipartError("is no multipart/related with a boundary")
    return boundary.encode()


def parts(chunks: Iterable[bytes], boundary: bytes, *, most_bytes: int) -> Iterator[tuple[str, bytearray]]:
    """Yield each part's content type and body.

    Args:
        chunks: The answer's bytes.
        boundary: See :func:`boundary_of`.
        most_bytes: A part may have.

    Raises:
        MultipartError: The answer ends in the middle, or a part is larger than that.
    """
    stream = iter(chunks)
    rest = bytearray(b"\r\n")  # so that the first boundary looks like the others
    divider = b"\r\n--" + boundary
    _, rest = _until(stream, rest, divider, _MOST_HEADER_BYTES)
    while True:
        line, rest = _until(stream, rest, b"\r\n", _MOST_HEADER_BYTES, or_end=b"--")
        if line.startswith(b"--"):
            return
        rest[:0] = b"\r\n"  # a part without headers has its empty line at once
        head, rest = _until(stream, rest, b"\r\n\r\n", _MOST_HEADER_BYTES)
        headers = BytesParser(policy=HTTP).parsebytes(bytes(head.lstrip()) + b"\r\n\r\n", headersonly=True)
        body, rest = _until(stream, rest, divider, most_bytes)
        yield headers.get_content_type(), body


def _until(
    stream: Iterator[bytes], rest: bytearray, mark: bytes, most: int, *, or_end: bytes | None = None
) -> tuple[bytearray, bytearray]:
    """Return what comes before a mark, and what has been read behind it."""
    looked = 0
    while True:
        if or_end is not None and rest.startswith(or_end):
            return rest, bytearray()
        place = rest.find(mark, looked)
        if place >= 0:
            return rest[:place], rest[place + len(mark) :]
        if len(rest) > most + len(mark):
            raise MultipartError(f"has a part of more than {most} bytes")
        looked = max(0, len(rest) - len(mark) + 1)
        chunk = next(stream, None)
        if chunk is None:
            raise MultipartError("ends in the middle of a part")
        rest += chunk
