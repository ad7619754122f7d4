"""Masks that cancel in the sum, and boxes that one site alone can open (Bonawitz 2017, sections 3 and 4).

A mask is AES-256 in counter mode under a key of its own, read as 64-bit words: whoever lacks the key cannot
tell it from uniform words. Keys come from X25519 (RFC 7748) and HKDF-SHA256 (RFC 5869), with the digest of
the terms and the names in it, so no key serves twice.
"""

import hashlib
import os

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import UInt64
from numpy import ndarray

from willis.shared.errors import UpdateRefused

KEY_BYTES = 32
_DOMAIN = b"willis.shared.secure_sum/"
_NONCE, _TAG = 12, 16
BOX_BYTES = _NONCE + 2 * KEY_BYTES + _TAG


def fresh_key() -> bytes:
    """Return 32 bytes of the operating system's: an X25519 private key, or the seed of a mask."""
    return os.urandom(KEY_BYTES)


def public_key(private: bytes) -> bytes:
    """Return the X25519 public key of a private one."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def can_agree(public: bytes) -> bool:
    """Whether a secret can be agreed with a public key; not with the few points that give everyone one."""
    try:
        _agreed(fresh_key(), public, "anyone")
    except UpdateRefused:
        return False
    return True


def seed_digest(seed: bytes, *, context: str) -> bytes:
    """Return what binds a site to the seed of its own mask without telling it."""
    return hashlib.sha256(_DOMAIN + b"seed/" + context.encode() + seed).digest()


def self_mask(seed: bytes, *, context: str, length: int) -> UInt64[ndarray, " coordinate"]:
    """Return the mask that a site adds alone; it falls when a quorum opens the seed."""
    return _words(_derived(seed, "self", context), length)


def pair_mask(
    private: bytes, public: bytes, *, me: str, peer: str, context: str, length: int
) -> UInt64[ndarray, " coordinate"]:
    """Return what ``me`` adds for a peer; the peer adds its negative modulo 2 ** 64.

    Args:
        private: The mask key of ``me``.
        public: The peer's, from its card.
        me: Name of the site that adds.
        peer: Name of the other.
        context: Digest of the terms.
        length: Coordinates.

    Raises:
        UpdateRefused: The peer's key is no point that can be agreed with.
    """
    low, high = sorted((me, peer))
    words = _words(_derived(_agreed(private, public, peer), f"pair/{low}/{high}", context), length)
    return words if me == low else np.negative(words)


def seal(
    shares: tuple[bytes, bytes], *, private: bytes, public: bytes, sender: str, receiver: str, context: str
) -> bytes:
    """Encrypt a share of the mask key and one of the seed, 32 bytes each, for one receiver."""
    key = _derived(_agreed(private, public, receiver), f"box/{sender}/{receiver}", context)
    nonce = os.urandom(_NONCE)
    return nonce + ChaCha20Poly1305(key).encrypt(nonce, b"".join(shares), context.encode())


def unseal(
    box: bytes, *, private: bytes, public: bytes, sender: str, receiver: str, context: str
) -> tuple[bytes, bytes]:
    """Decrypt what :func:`seal` made, of ``BOX_BYTES`` bytes.

    Raises:
        UpdateRefused: It was made by another, for another, under other terms, or changed on the way.
    """
    key = _derived(_agreed(private, public, sender), f"box/{sender}/{receiver}", context)
    try:
        shares = ChaCha20Poly1305(key).decrypt(box[:_NONCE], box[_NONCE:], context.encode())
    except (InvalidTag, ValueError) as fault:
        raise UpdateRefused(f"the box from {sender} to {receiver} does not open") from fault
    return shares[:KEY_BYTES], shares[KEY_BYTES:]


def _agreed(private: bytes, public: bytes, peer: str) -> bytes:
    try:
        return X25519PrivateKey.from_private_bytes(private).exchange(
            X25519PublicKey.from_public_bytes(public)
        )
    except ValueError as fault:
        raise UpdateRefused(f"the key of {peer} is not sound: no secret can be agreed with it") from fault


def _derived(secret: bytes, purpose: str, context: str) -> bytes:
    info = _DOMAIN + purpose.encode() + b"/" + context.encode()
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=info).derive(secret)


def _words(key: bytes, n: int) -> UInt64[ndarray, " coordinate"]:
    stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()
    return np.frombuffer(stream.update(bytes(8 * n)), dtype="<u8").astype(np.uint64)
