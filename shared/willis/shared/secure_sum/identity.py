"""Who signs: a site's node key, and the roster by which others know it.

Flower's SuperNodes have keys on the curve P-384 and sign with ECDSA over SHA-256; a simulation takes Ed25519.
The roster (name to public key) is a site's own setting, exchanged between hospitals, never the coordinator's
word: whoever hands out the roster can read every mask.
"""

from collections.abc import Mapping
from typing import Protocol

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.hashes import SHA256

from willis.shared.errors import StudyError

_ECDSA = ec.ECDSA(SHA256())
MOST_SIGNATURE_BYTES = 160


class Signer(Protocol):
    """What signs in a site's name; the private key need not be in this process."""

    def sign(self, message: bytes, /) -> bytes:
        """Return a signature of at most 160 bytes."""
        ...


class Verifier(Protocol):
    """What knows a site's signature."""

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is the site's, over this message."""
        ...


Roster = Mapping[str, Verifier]


class NodeKey:
    """A private key that signs.

    Args:
        key: On P-384 (ECDSA over SHA-256) or Ed25519.
    """

    def __init__(self, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
        self._key = key
        self.identity = NodeIdentity(key.public_key())

    @classmethod
    def fresh(cls) -> "NodeKey":
        """Return a new Ed25519 key, from the operating system's randomness."""
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def fresh_p384(cls) -> "NodeKey":
        """Return a new key on P-384, as Flower's SuperNodes need it."""
        return cls(ec.generate_private_key(ec.SECP384R1()))

    def openssh(self) -> bytes:
        """Return the private key as OpenSSH writes it, without a password: for the site's own disk only."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.OpenSSH,
            serialization.NoEncryption(),
        )

    def pem(self) -> bytes:
        """Return the private key as PEM, without a password: for the site's own disk only."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    @classmethod
    def read(cls, pem: bytes) -> "NodeKey":
        """Read a private key: PEM (PKCS 8) or OpenSSH's own form, without a password.

        Raises:
            StudyError: It is not that, or on another curve.
        """
        try:
            ours = b"BEGIN OPENSSH PRIVATE KEY" in pem.partition(b"\n")[0]
            load = serialization.load_ssh_private_key if ours else serialization.load_pem_private_key
            key = load(pem, None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
            raise StudyError(
                f"cannot read the site's private key: {type(fault).__name__}; it is PEM or OpenSSH's form, "
                "without a password"
            ) from fault
        NodeIdentity(key.public_key())
        assert isinstance(key, ec.EllipticCurvePrivateKey | Ed25519PrivateKey)
        return cls(key)

    def sign(self, message: bytes, /) -> bytes:
        """Return the signature over a message."""
        if isinstance(self._key, Ed25519PrivateKey):
            return self._key.sign(message)
        return self._key.sign(message, _ECDSA)

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key hidden)"


class NodeIdentity:
    """A public key that verifies.

    Args:
        key: On P-384 or Ed25519.

    Raises:
        StudyError: The key is of another kind.
    """

    def __init__(self, key: object) -> None:
        on_p384 = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)
        if not (on_p384 or isinstance(key, Ed25519PublicKey)):
            raise StudyError(f"a site's key is P-384 or Ed25519, got {type(key).__name__}")
        self._key: ec.EllipticCurvePublicKey | Ed25519PublicKey = key  # pyright: ignore[reportAttributeAccessIssue]

    def line(self) -> str:
        """Return the public key as one line of OpenSSH."""
        form = serialization.PublicFormat.OpenSSH
        return self._key.public_bytes(serialization.Encoding.OpenSSH, form).decode()

    @classmethod
    def read(cls, text: bytes) -> "NodeIdentity":
        """Read a public key, PEM or one line of OpenSSH.

        Raises:
            StudyError: It is neither, or of another kind.
        """
        pem = text.lstrip().startswith(b"-----BEGIN")
        load = serialization.load_pem_public_key if pem else serialization.load_ssh_public_key
        try:
            key = load(text)
        except (ValueError, UnsupportedAlgorithm) as fault:
            raise StudyError(
                f"cannot read a site's public key: {type(fault).__name__}; it is PEM or OpenSSH"
            ) from fault
        return cls(key)

    def signed(self, message: bytes, signature: bytes) -> bool:
        """Whether the signature is this key's, over this message."""
        try:
            if isinstance(self._key, Ed25519PublicKey):
                self._key.verify(signature, message)
            elif isinstance(self._key, ec.EllipticCurvePublicKey):
                self._key.verify(signature, message, _ECDSA)
        except InvalidSignature:
            return False
        return True
