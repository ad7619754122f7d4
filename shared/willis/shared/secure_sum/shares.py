"""A 32-byte secret in shares, of which a quorum opens it and fewer tell nothing (Shamir 1979).

pycryptodome shares 16 bytes at a time, over GF(2 ** 128); the secret goes in two halves.
"""

from collections.abc import Mapping

from Crypto.Protocol.SecretSharing import Shamir

SECRET_BYTES = 32
_HALF = SECRET_BYTES // 2


def split(secret: bytes, *, quorum: int, n: int) -> dict[int, bytes]:
    """Return n shares of 32 bytes by their number, 1 to n."""
    if not len(secret) == SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, got {len(secret)}")
    if not 2 <= quorum <= n:
        raise ValueError(f"quorum must lie in 2 to {n}, got {quorum}")
    first, second = (Shamir.split(quorum, n, half, ssss=False) for half in (secret[:_HALF], secret[_HALF:]))
    return {number: share + more for (number, share), (_, more) in zip(first, second, strict=True)}


def join(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret that exactly a quorum of shares opens.

    Shares of different secrets, or too few, give 32 bytes that mean nothing: the caller checks the outcome.
    """
    if not all(len(share) == SECRET_BYTES for share in shares.values()):
        raise ValueError(f"a share has {SECRET_BYTES} bytes, got {sorted(map(len, shares.values()))}")
    return b"".join(
        Shamir.combine([(number, share[part]) for number, share in sorted(shares.items())], ssss=False)
        for part in (slice(0, _HALF), slice(_HALF, SECRET_BYTES))
    )
