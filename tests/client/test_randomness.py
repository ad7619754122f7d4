"""The operating system's randomness: known answers, distributions, replay, streams of their own."""

import copy
import math
import pickle

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.hmac import HMAC
from scipy import stats

from willis.client.randomness import SecretRandom

KEYS = [bytes([k]) * 32 for k in range(3)]
N = 200_000


def flat(random: SecretRandom, n: int) -> np.ndarray:
    return random.normal([torch.Size([n])])[0].numpy()


def words(key: bytes, n: int) -> np.ndarray:
    """The key stream by another way: AES in ECB mode of the counters 0, 1, 2, ..."""
    blocks = b"".join(count.to_bytes(16, "big") for count in range((n + 1) // 2))
    encrypt = Cipher(algorithms.AES(key), modes.ECB()).encryptor()
    return np.frombuffer(encrypt.update(blocks), dtype="<u8")[:n]


def test_uniforms_are_the_top_bits_of_the_aes_counter_stream():
    # AES-256 of the block 0 under the key 0 is dc95c078a2408989ad48a21492842087 (NIST CAVS).
    first = SecretRandom(bytes(32)).uniform(2)
    blocks = bytes.fromhex("dc95c078a2408989"), bytes.fromhex("ad48a21492842087")
    assert first.tolist() == [(int.from_bytes(block, "little") >> 11) / 2**53 for block in blocks]
    got = SecretRandom(KEYS[1]).uniform(1001)
    np.testing.assert_array_equal(got, (words(KEYS[1], 1001) >> np.uint64(11)) / 2.0**53)


def test_normals_are_box_muller_of_the_stream():
    # By the formula, in plain float64: radius from the first half of the words, angle from the second.
    low = words(KEYS[2], 8) & np.uint64(2**53 - 1)
    radius = [math.sqrt(-2 * math.log((int(w) + 1) / 2**53)) for w in low[:4]]
    angle = [2 * math.pi * int(w) / 2**53 for w in low[4:]]
    wanted = [r * math.cos(a) for r, a in zip(radius, angle, strict=True)]
    wanted += [r * math.sin(a) for r, a in zip(radius, angle, strict=True)]
    np.testing.assert_allclose(flat(SecretRandom(KEYS[2]), 8), wanted, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("key", KEYS)
def test_normals_are_normal(key):
    # With 200,000 values a Kolmogorov-Smirnov distance of 0.0044 has p = 0.001. A mean off by 0.015 moves
    # the distance by 0.006, a scale of 0.97 by 0.0073: both would be seen (next test). Fixed keys, so the
    # test never fails by chance.
    values = flat(SecretRandom(key), N).astype(np.float64)
    assert stats.kstest(values, "norm").pvalue > 0.001
    assert abs(values.mean()) < 4 / math.sqrt(N)
    assert abs(values.std() - 1) < 4 / math.sqrt(2 * N)
    assert abs(stats.kurtosis(values)) < 4 * math.sqrt(24 / N)
    assert 4 < np.abs(values).max() < 8.58


def test_the_normality_test_has_power():
    values = flat(SecretRandom(KEYS[0]), N).astype(np.float64)
    assert stats.kstest(values + 0.015, "norm").pvalue < 0.001
    assert stats.kstest(values * 0.97, "norm").pvalue < 0.001
    assert stats.kstest(np.repeat(values[: N // 4], 4), "norm").pvalue < 0.5


@pytest.mark.parametrize("lag", [1, 2, 3, 64, N // 2])
def test_normals_do_not_follow_each_other(lag):
    # Cosine and sine halves share a radius: the squares must be uncorrelated too.
    values = flat(SecretRandom(KEYS[1]), N)
    for series in (values, values**2):
        assert abs(np.corrcoef(series[:-lag], series[lag:])[0, 1]) < 4 / math.sqrt(N - lag)


@pytest.mark.parametrize("key", KEYS)
def test_uniforms_are_uniform(key):
    values = SecretRandom(key).uniform(N)
    assert values.dtype == np.float64
    assert stats.kstest(values, "uniform").pvalue > 0.001
    assert (values >= 0).all()
    assert (values < 1).all()


def test_the_same_key_repeats_every_draw():
    def draws(random: SecretRandom) -> list:
        normals = random.normal([torch.Size([3, 5]), torch.Size([7])])
        return [
            *(part.tolist() for part in normals),
            random.uniform(4).tolist(),
            random.generator().integers(1 << 60, size=4).tolist(),
            random.spawn("noise").uniform(4).tolist(),
        ]

    assert draws(SecretRandom(KEYS[1])) == draws(SecretRandom(KEYS[1]))
    for one, other in zip(draws(SecretRandom(KEYS[1])), draws(SecretRandom(KEYS[2])), strict=True):
        assert one != other


def test_the_number_of_threads_changes_no_bit():
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = flat(SecretRandom(KEYS[1]), 300_001)
        torch.set_num_threads(2)
        two = flat(SecretRandom(KEYS[1]), 300_001)
    finally:
        torch.set_num_threads(before)
    np.testing.assert_array_equal(one, two)


def test_draws_go_on_and_never_repeat():
    random = SecretRandom(KEYS[0])
    first, second = random.uniform(1000), random.uniform(1000)
    assert len(set(first) | set(second)) == 2000
    np.testing.assert_array_equal(np.concatenate([first, second]), SecretRandom(KEYS[0]).uniform(2000))


def test_the_operating_system_gives_another_key_every_time():
    one, other = (SecretRandom.from_operating_system().uniform(4).tolist() for _ in range(2))
    assert one != other


def test_spawned_streams_are_their_own():
    root = SecretRandom(KEYS[1])
    streams = {label: root.spawn(label).uniform(2000) for label in ("noise", "units", "bags", "")}
    streams["root"] = SecretRandom(KEYS[1]).uniform(2000)
    assert len({value for stream in streams.values() for value in stream}) == 2000 * len(streams)
    root.uniform(17)
    np.testing.assert_array_equal(root.spawn("noise").uniform(2000), streams["noise"])


def test_spawned_keys_are_hkdf():
    # RFC 5869 with SHA-256 and 32 bytes: PRK = HMAC(zeros, key), key' = HMAC(PRK, info || 1).
    def hmac(key: bytes, data: bytes) -> bytes:
        mac = HMAC(key, SHA256())
        mac.update(data)
        return mac.finalize()

    child = hmac(hmac(bytes(32), KEYS[2]), b"willis.client.randomness/noise\x01")
    np.testing.assert_array_equal(
        SecretRandom(KEYS[2]).spawn("noise").uniform(9), SecretRandom(child).uniform(9)
    )


def test_shapes():
    shapes = [torch.Size([2, 3]), torch.Size([]), torch.Size([0, 4]), torch.Size([5])]
    parts = SecretRandom(KEYS[1]).normal(shapes)
    assert [part.shape for part in parts] == shapes
    assert all(part.dtype == torch.float32 for part in parts)
    joined = torch.cat([part.reshape(-1) for part in parts]).numpy()
    np.testing.assert_array_equal(joined, flat(SecretRandom(KEYS[1]), 12))
    assert SecretRandom(KEYS[1]).normal([]) == []
    assert len(SecretRandom(KEYS[1]).uniform(0)) == 0
    with pytest.raises(ValueError, match="got -1"):
        SecretRandom(KEYS[1]).uniform(-1)


def test_generators_differ_in_all_of_their_seed():
    # 256 bits: a change in the last byte of the seed must change the draws.
    random = SecretRandom(KEYS[1])
    one, other = random.generator(), random.generator()
    assert one.integers(1 << 60, size=8).tolist() != other.integers(1 << 60, size=8).tolist()
    sequence = one.bit_generator.seed_seq
    assert isinstance(sequence, np.random.SeedSequence)
    assert sequence.pool_size == 8
    assert np.asarray(sequence.pool).nbytes == 32


def test_the_key_does_not_show():
    random = SecretRandom(b"secret-secret-secret-secret-1234")
    for text in (repr(random), str(random), f"{random}"):
        assert text == "SecretRandom(key hidden)"
    for duplicate in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="neither pickled nor copied"):
            duplicate(random)


@pytest.mark.parametrize("key", [b"", b"short", bytes(16), bytes(33)])
def test_a_key_of_another_length_is_refused_and_not_shown(key):
    with pytest.raises(ValueError, match="key must be 32 bytes, got bytes of") as refusal:
        SecretRandom(key)
    assert "short" not in str(refusal.value)
