"""What travels in a secure sum, in the order of its steps; every message is bounded, and read without trust.

step 0  KeyCard      site to hub          CardList    hub to all
step 1  SealedShares site to hub          Inbox       hub to each
step 2  MaskedSum    site to hub          Survivors   hub to all
step 3  Vow          site to hub          Vows        hub to all
step 4  Revealed     site to hub

Small ones are JSON (bytes in base64); a masked sum is a line of JSON and its words, little-endian.
"""

import json
from dataclasses import dataclass
from typing import Annotated, Self

import numpy as np
from jaxtyping import UInt64
from numpy import ndarray
from pydantic import ConfigDict, Field, ValidationError

from willis.shared.errors import UpdateRefused
from willis.shared.secure_sum.identity import MOST_SIGNATURE_BYTES
from willis.shared.secure_sum.masks import BOX_BYTES, KEY_BYTES
from willis.shared.secure_sum.terms import MOST_SITES
from willis.shared.settings import Settings
from willis.shared.study import Name
from willis.shared.update import Digest

MOST_BYTES = 100_000  # of any message but a masked sum: a hundred cards take at most 70,000
_MOST_HEADER = 1_000
Key = Annotated[bytes, Field(min_length=KEY_BYTES, max_length=KEY_BYTES)]
Box = Annotated[bytes, Field(min_length=BOX_BYTES, max_length=BOX_BYTES)]
Signature = Annotated[bytes, Field(min_length=1, max_length=MOST_SIGNATURE_BYTES)]
Boxes = Annotated[dict[Name, Box], Field(max_length=MOST_SITES)]
Keys = Annotated[dict[Name, Key], Field(max_length=MOST_SITES)]


class Message(Settings):
    """Base of what travels.

    Attributes:
        context: Digest of the terms.
    """

    model_config = ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")

    context: Digest

    def to_bytes(self) -> bytes:
        """Return the message as JSON."""
        return self.model_dump_json().encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> Self:
        """Read a message.

        Raises:
            UpdateRefused: It is too long, or not such a message.
        """
        return cls._read(data, most=MOST_BYTES)

    @classmethod
    def _read(cls, data: bytes, *, most: int) -> Self:
        if not len(data) <= most:
            raise UpdateRefused(f"{cls.__name__}: {len(data)} bytes, at most {most}")
        try:
            return cls.model_validate_json(data)
        except ValidationError as fault:
            where = ", ".join(sorted({str(item["loc"][0]) for item in fault.errors() if item["loc"]}))
            raise UpdateRefused(f"not a {cls.__name__}: {where or 'no JSON'} does not fit") from fault


class KeyCard(Message):
    """A site's public keys for one sum, signed.

    Attributes:
        site: Whose.
        mask_key: X25519 public key of its pairwise masks.
        share_key: X25519 public key of the boxes it sends and receives.
        seed_digest: Binds it to the seed of its own mask.
        signature: By the site's node key, over all the rest.
    """

    site: Name
    mask_key: Key
    share_key: Key
    seed_digest: Key
    signature: Signature

    def body(self) -> bytes:
        """Return what is signed."""
        return card_body(self.site, self.context, (self.mask_key, self.share_key, self.seed_digest))


class CardList(Message):
    """The cards that came in time."""

    cards: tuple[KeyCard, ...] = Field(max_length=MOST_SITES)


class SealedShares(Message):
    """A site's shares of its secrets, each in a box for one peer.

    Attributes:
        site: Whose secrets.
        boxes: By the receiver's name.
    """

    site: Name
    boxes: Boxes


class Inbox(Message):
    """The boxes for one site.

    Attributes:
        site: The receiver.
        boxes: By the sender's name.
    """

    site: Name
    boxes: Boxes


class Survivors(Message):
    """Whose masked sums came in time.

    Attributes:
        names: Sorted.
    """

    names: tuple[Name, ...] = Field(max_length=MOST_SITES)


class Vow(Message):
    """A site's signature under the list of survivors it was shown; it signs one list a sum."""

    site: Name
    signature: Signature


class Vows(Message):
    """The vows that came in time, by name."""

    signatures: Annotated[dict[Name, Signature], Field(max_length=MOST_SITES)]


class Revealed(Message):
    """What a site holds of others' secrets: of the seed where the other survived, of the mask key where not.

    Attributes:
        site: Who reveals.
        seeds: Share of the seed, by survivor.
        mask_keys: Share of the mask key, by site that dropped out after it had shared.
    """

    site: Name
    seeds: Keys
    mask_keys: Keys


class _MaskedHeader(Message):
    site: Name
    length: int = Field(ge=1)


@dataclass(frozen=True, eq=False)
class MaskedSum:
    """A site's noisy sum under its masks: uniform words to whoever cannot open them.

    Attributes:
        context: Digest of the terms.
        site: Whose.
        vector: Words modulo 2 ** 64.
    """

    context: str
    site: str
    vector: UInt64[ndarray, " coordinate"]

    def to_bytes(self) -> bytes:
        """Return a line of JSON and the words."""
        header = _MaskedHeader(context=self.context, site=self.site, length=len(self.vector))
        return header.to_bytes() + b"\n" + self.vector.astype("<u8").tobytes()

    @classmethod
    def from_bytes(cls, data: bytes, *, length: int) -> "MaskedSum":
        """Read a masked sum of as many coordinates as the terms say.

        Raises:
            UpdateRefused: It is not that.
        """
        line, _, words = data[: _MOST_HEADER + 8 * length + 1].partition(b"\n")
        header = _MaskedHeader._read(line, most=_MOST_HEADER)
        if not (header.length == length and len(line) + 1 + 8 * length == len(data)):
            raise UpdateRefused(
                f"MaskedSum of {header.site}: {header.length} coordinates in {len(data)} bytes, "
                f"expected {length}"
            )
        return cls(header.context, header.site, np.frombuffer(words, dtype="<u8").astype(np.uint64))


def card_body(site: str, context: str, keys: tuple[bytes, bytes, bytes]) -> bytes:
    """Return what a site signs to make its keys its own: mask key, share key, digest of its seed."""
    return _statement("card", context, [site, *(key.hex() for key in keys)])


def vow_body(cards: CardList, *, sharers: list[str], survivors: list[str]) -> bytes:
    """Return what a site vows: the cards, those who shared, and those who survived, as it saw them."""
    keys = [card.body().hex() for card in sorted(cards.cards, key=lambda card: card.site)]
    return _statement("vow", cards.context, [keys, sorted(sharers), sorted(survivors)])


def _statement(kind: str, context: str, what: list) -> bytes:
    return b"willis.shared.secure_sum/" + json.dumps([kind, context, what]).encode()
