"""What a hub says of a release, checked against the signature in the kit before anybody believes it."""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.signed_sheet import SignedSheet, read_sheet
from willis.shared.errors import ReleaseError
from willis.shared.release_bundle.layout import SHEET
from willis.shared.release_signature import SignedRelease, verify_sums

MOST_FILE_BYTES = 64 << 30
_MOST_SIDE, _MOST_CHANNELS = 4096, 64


@dataclass(frozen=True)
class SheetedRelease:
    """A release as its signed sheet describes it; name, sizes and ``most_pairs`` alone are the hub's word.

    Attributes:
        name: As the hub lists it.
        signed: Digest of the release, and of each of its files.
        sizes: Bytes of each file, as the hub says: a file of another size has another digest.
        sheet: What the release says of itself, one of its signed files.
        study: Name of the study, by the sheet.
        privacy: Its privacy in one sentence, by the sheet.
        image_shape: Of one image: channels, then pixels along each axis; by the sheet.
        most_pairs: In one draw, as the hub says.
    """

    name: str
    signed: SignedRelease
    sizes: Mapping[str, int]
    sheet: Mapping[str, object]
    study: str
    privacy: str
    image_shape: tuple[int, ...]
    most_pairs: int

    @property
    def pair_bytes(self) -> int:
        """Bytes of one pair in a stream: float32 image, int8 label."""
        return 4 * math.prod(self.image_shape) + math.prod(self.image_shape[1:])


def checked(told: words.Description, *, name: str, key: Ed25519PublicKey) -> SheetedRelease:
    """Return a description whose digests were signed and whose parts fit.

    1) the signature over ``SHA256SUMS``; 2) the hub's list of files; 3) the digest of ``release.json``;
    4) what the hub says of study, privacy and shape beside what that file says.

    Raises:
        ReleaseError: Another key signed it, its parts contradict each other, or the hub says other things of
            the release than its signed sheet does.
    """
    signed = verify_sums(told.sums, told.signature, key=key, where=f"release {name}")
    sizes = {file.name: file.bytes for file in told.files}
    if len(sizes) != len(told.files) or set(sizes) != set(signed.files):
        raise ReleaseError(f"release {name}: the hub names other files than those that were signed")
    if not all(0 <= size <= MOST_FILE_BYTES for size in sizes.values()):
        raise ReleaseError(f"release {name}: a file must have 0 to {MOST_FILE_BYTES} bytes, got {sizes}")
    if (told.release.name, told.release.digest) != (name, signed.digest):
        raise ReleaseError(f"release {name}: the hub describes {told.release.name[:80]!r} instead")
    whole = _sheet(told, signed, name)
    sheet = read_sheet(whole, release=name)
    _check_words(told, sheet, name)
    return SheetedRelease(
        name=name,
        signed=signed,
        sizes=sizes,
        sheet=whole,
        study=printable(sheet.study.name),
        privacy=printable(sheet.network.sentence()),
        image_shape=sheet.image_shape,
        most_pairs=told.most_pairs,
    )


def shape_of(shape: words.Shape, name: str) -> tuple[int, ...]:
    """Return the shape of an image: channels, then 2 or 3 axes.

    Raises:
        ReleaseError: It is none.
    """
    found = tuple(shape.image)
    fits = len(found) in (3, 4) and 1 <= found[0] <= _MOST_CHANNELS
    if not (fits and all(1 <= side <= _MOST_SIDE for side in found[1:])):
        raise ReleaseError(f"release {name}: an image has channels and 2 or 3 axes, the hub says {found[:8]}")
    return found


def printable(text: str) -> str:
    """Return a text of the hub fit for a terminal: one line, no control signs, at most 2000 signs."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:2000])


def _check_words(told: words.Description, sheet: SignedSheet, name: str) -> None:
    shape = " x ".join(map(str, shape_of(told.shape, name)))
    beside = [
        ("study", told.release.study, sheet.study.name),
        ("privacy", told.release.privacy, sheet.network.sentence()),
        ("shape of an image", shape, " x ".join(map(str, sheet.image_shape))),
    ]
    problems = [
        f"{what}: the hub says {printable(theirs)!r}, the signed sheet {printable(own)!r}"
        for what, theirs, own in beside
        if theirs != own
    ]
    if problems:
        raise ReleaseError(
            f"release {name}: the hub says other things of it than {SHEET}, which was signed; trust neither "
            "before its operator has told you why (the hub's Willis may be another version)",
            problems,
        )


def _sheet(told: words.Description, signed: SignedRelease, name: str) -> dict[str, object]:
    if told.sheet_file != SHEET:
        raise ReleaseError(f"release {name}: the hub gives {told.sheet_file[:80]!r} for {SHEET}")
    if hashlib.sha256(told.sheet).hexdigest() != signed.files.get(SHEET):
        raise ReleaseError(f"release {name}: its sheet is not the file that was signed")
    try:
        sheet = json.loads(told.sheet)
    except (ValueError, RecursionError) as fault:
        raise ReleaseError(f"release {name}: its sheet is not JSON") from fault
    if not isinstance(sheet, dict):
        raise ReleaseError(f"release {name}: its sheet must be an object, got a {type(sheet).__name__}")
    return sheet
