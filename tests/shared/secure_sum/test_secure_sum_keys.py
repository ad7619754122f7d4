"""Shares, masks, boxes and keys of a secure sum."""

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from willis.shared.errors import StudyError, UpdateRefused
from willis.shared.secure_sum import masks, shares
from willis.shared.secure_sum.identity import NodeIdentity, NodeKey


@pytest.mark.parametrize(("quorum", "n"), [(2, 2), (3, 4), (4, 6)])
def test_any_quorum_of_shares_opens_and_fewer_do_not(quorum, n):
    secret = masks.fresh_key()
    parts = shares.split(secret, quorum=quorum, n=n)
    assert sorted(parts) == list(range(1, n + 1))
    for first in range(1, n - quorum + 2):
        assert shares.join({k: parts[k] for k in range(first, first + quorum)}) == secret
    assert shares.join({k: parts[k] for k in range(1, quorum)}) != secret
    again = shares.split(secret, quorum=quorum, n=n)
    assert again != parts


def test_impossible_shares_are_refused():
    with pytest.raises(ValueError, match="32 bytes, got 16"):
        shares.split(bytes(16), quorum=2, n=3)
    with pytest.raises(ValueError, match="quorum must lie in 2 to 3, got 4"):
        shares.split(bytes(32), quorum=4, n=3)
    with pytest.raises(ValueError, match=r"got \[31, 32\]"):
        shares.join({1: bytes(31), 2: bytes(32)})


def test_pair_masks_cancel_and_differ_by_sum():
    mine, theirs = masks.fresh_key(), masks.fresh_key()
    one = masks.pair_mask(mine, masks.public_key(theirs), me="a", peer="b", context="c", length=9)
    two = masks.pair_mask(theirs, masks.public_key(mine), me="b", peer="a", context="c", length=9)
    assert not (one + two).any()
    assert one.any()
    other = masks.pair_mask(mine, masks.public_key(theirs), me="a", peer="b", context="d", length=9)
    assert not np.array_equal(one, other)


def test_a_point_of_small_order_is_refused():
    with pytest.raises(UpdateRefused, match="key of b is not sound"):
        masks.pair_mask(masks.fresh_key(), bytes(32), me="a", peer="b", context="c", length=1)


def test_a_box_opens_for_its_receiver_alone():
    mine, theirs = masks.fresh_key(), masks.fresh_key()
    pair = (b"1" * 32, b"2" * 32)
    box = masks.seal(
        pair, private=mine, public=masks.public_key(theirs), sender="a", receiver="b", context="c"
    )
    assert len(box) == masks.BOX_BYTES

    def unseal(box: bytes, *, private=theirs, sender="a", receiver="b", context="c") -> tuple[bytes, bytes]:
        public = masks.public_key(mine)
        return masks.unseal(
            box, private=private, public=public, sender=sender, receiver=receiver, context=context
        )

    assert unseal(box) == pair
    spoilt = box[:-1] + bytes([box[-1] ^ 1])
    for attempt in (
        lambda: unseal(box, sender="b", receiver="a"),
        lambda: unseal(box, context="d"),
        lambda: unseal(box, private=masks.fresh_key()),
        lambda: unseal(spoilt),
    ):
        with pytest.raises(UpdateRefused, match="does not open"):
            attempt()


KEYS = [
    pytest.param(ed25519.Ed25519PrivateKey.generate(), id="ed25519"),
    pytest.param(ec.generate_private_key(ec.SECP384R1()), id="p384"),
]


@pytest.mark.parametrize("private", KEYS)
def test_a_signature_holds_for_its_message_and_key(private):
    key, other = NodeKey(private), NodeKey(ed25519.Ed25519PrivateKey.generate())
    signature = key.sign(b"one")
    assert key.identity.signed(b"one", signature)
    assert not key.identity.signed(b"two", signature)
    assert not key.identity.signed(b"one", b"\x30\x03rot")
    assert not other.identity.signed(b"one", signature)
    assert "hidden" in repr(key)


@pytest.mark.parametrize("private", KEYS)
@pytest.mark.parametrize("form", ["pem", "ssh"])
def test_public_keys_are_read_from_text(private, form):
    pem = serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    ssh = serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    text = private.public_key().public_bytes(*(pem if form == "pem" else ssh))
    assert NodeIdentity.read(text).signed(b"one", NodeKey(private).sign(b"one"))


def test_other_keys_are_refused():
    with pytest.raises(StudyError, match="cannot read a site's public key"):
        NodeIdentity.read(b"ssh-ed25519 rot")
    for private in (ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)):
        with pytest.raises(StudyError, match="P-384 or Ed25519"):
            NodeIdentity(private.public_key())
