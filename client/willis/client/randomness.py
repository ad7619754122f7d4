"""Chance that nobody can foresee: a random bit generator keyed by the operating system.

The bits are AES-256 in counter mode (NIST SP 800-38A), from a key of 32 bytes of ``os.urandom``. The same
key repeats the same draws, so a round redone after a crash is the same release and is paid for once.
torch's CPU generator keeps 32 bits of its seed: all its streams can be tried.

Not covered: attacks on the rounding of floating-point noise (Mironov 2012), and who reads this process's
memory. Repeats are equal to the last bit with the same version of torch on the same kind of processor.
"""

import math
import os
from collections.abc import Sequence

import numpy as np
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from jaxtyping import Float
from torch import Tensor

KEY_BYTES = 32
_MANTISSA = 53  # bits of a uniform
_DOMAIN = b"willis.client.randomness/"


class SecretRandom:
    """A stream of uniform and normal variates; every draw goes on where the last one ended.

    Args:
        key: 32 bytes. Whoever knows it knows every draw: it never leaves the site.

    Raises:
        ValueError: The key has another length.
    """

    def __init__(self, key: bytes) -> None:
        if not (isinstance(key, bytes) and len(key) == KEY_BYTES):
            raise ValueError(f"key must be {KEY_BYTES} bytes, got {type(key).__name__} of {len(key)}")
        self._key = key
        self._stream = Cipher(algorithms.AES(key), modes.CTR(bytes(16))).encryptor()

    @classmethod
    def from_operating_system(cls) -> "SecretRandom":
        """Return a stream under a fresh key of ``os.urandom``."""
        return cls(os.urandom(KEY_BYTES))

    def spawn(self, label: str) -> "SecretRandom":
        """Return the stream of this name, under a key of its own (HKDF-SHA256, RFC 5869).

        It depends on this stream's key and the label alone, not on what was drawn before.
        """
        derive = HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=_DOMAIN + label.encode())
        return SecretRandom(derive.derive(self._key))

    def uniform(self, n: int) -> np.ndarray:
        """Return n float64 in [0, 1), multiples of 2 ** -53."""
        return (self._words(n).view(np.uint64) >> np.uint64(64 - _MANTISSA)) * 2.0**-_MANTISSA

    def normal(self, shapes: Sequence[torch.Size]) -> list[Float[Tensor, "..."]]:
        """Return float32 standard normal tensors on the CPU, one a shape (Box and Muller 1958).

        They are made in float64 from 53-bit uniforms, so the largest is sqrt(2 * 53 * ln 2) = 8.57; a
        normal variate is larger once in 10 ** 17.
        """
        sizes = [torch.Size(shape).numel() for shape in shapes]
        flat = self._flat_normal(sum(sizes))
        parts = flat.split(sizes)
        return [part.reshape(torch.Size(shape)) for part, shape in zip(parts, shapes, strict=True)]

    def generator(self) -> np.random.Generator:
        """Return a fast generator with 256 bits of seed from this stream, for what guards nobody's privacy.

        Which patches, which flips; never noise, never who takes part. It is no cryptographic generator.
        """
        seed = int.from_bytes(self._bytes(KEY_BYTES), "little")
        return np.random.Generator(np.random.PCG64DXSM(np.random.SeedSequence(seed, pool_size=8)))

    def _flat_normal(self, n: int) -> Float[Tensor, " value"]:
        half = (n + 1) // 2
        words = torch.from_numpy(self._words(2 * half)).bitwise_and_((1 << _MANTISSA) - 1)
        uniforms = words.to(torch.float64)
        # The radius takes a uniform in (0, 1], whose logarithm is finite.
        radius = uniforms[:half].add_(1).mul_(2.0**-_MANTISSA).log_().mul_(-2).sqrt_()
        angle = uniforms[half:].mul_(2 * math.pi * 2.0**-_MANTISSA)
        normals = torch.empty(2, half, dtype=torch.float32)
        normals[0] = angle.cos().mul_(radius)
        normals[1] = angle.sin_().mul_(radius)
        return normals.reshape(-1)[:n]

    def _words(self, n: int) -> np.ndarray:
        """Return n 64-bit words of the stream, as signed integers."""
        if not n >= 0:
            raise ValueError(f"the number of draws must be at least 0, got {n}")
        return np.frombuffer(self._bytes(8 * n), dtype="<i8").copy()

    def _bytes(self, n: int) -> bytes:
        return self._stream.update(bytes(n))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key hidden)"

    def __reduce__(self):
        raise TypeError("a SecretRandom is neither pickled nor copied: a copy would repeat its draws")
