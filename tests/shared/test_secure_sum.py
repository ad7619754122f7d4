"""The parts of a secure sum: terms, whole numbers, noise and its price, shares, keys, boxes, messages."""

import base64
import math
from fractions import Fraction

import numpy as np
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from scipy import stats

from willis.shared.accounting import noise_multiplier
from willis.shared.errors import StudyError, UpdateRefused
from willis.shared.secure_sum import masks, messages, shares
from willis.shared.secure_sum.fixed_point import FixedPoint
from willis.shared.secure_sum.identity import NodeIdentity, NodeKey
from willis.shared.secure_sum.noise import discrete_gaussian
from willis.shared.secure_sum.privacy import (
    ROUNDING_SLACK,
    epsilon_if_honest,
    epsilon_table,
    honest_multiplier,
    sum_slack,
    sum_std,
)
from willis.shared.secure_sum.terms import SumTerms, least_quorum

SITES = ("east", "north", "south", "west")
UNLIKELY = 1e-6  # a right sampler fails a test so often


def terms(**changes) -> SumTerms:
    fields = {
        "run": "run-1",
        "round": 1,
        "order_digest": "0" * 64,
        "sites": SITES,
        "quorum": 3,
        "colluders": 1,
        "length": 20,
        "clip_norm": 1.0,
        "noise_multiplier": 2.0,
    }
    return SumTerms(**(fields | changes))


# Terms


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"sites": SITES[::-1]}, "sorted"),
        ({"sites": ("a", "a", "b")}, "sorted"),
        ({"quorum": 5}, "at most the 4 sites"),
        ({"colluders": 3}, "fewer than the quorum 3"),
        ({"quorum": 2, "colluders": 0}, "at least 3 of 4 sites"),
        ({"colluders": 2}, "at least 4 of 4 sites"),
        ({"noise_multiplier": float("nan")}, "finite"),
        ({"clip_norm": 0.0}, "greater than"),
    ],
)
def test_terms_that_do_not_fit_are_refused(changes, fault):
    with pytest.raises(ValidationError, match=fault):
        terms(**changes)


@given(st.integers(2, 30), st.integers(0, 29))
def test_two_lists_of_survivors_cannot_both_be_signed(n, colluders):
    # Each honest site signs one list, each colluder both: 2 quorums of signatures are more than there are.
    if colluders >= n:
        with pytest.raises(ValueError, match="fewer colluders"):
            least_quorum(n, colluders=colluders)
        return
    quorum = least_quorum(n, colluders=colluders)
    most = (n - colluders) + 2 * colluders
    assert 2 * quorum > most
    assert quorum == 2 or 2 * (quorum - 1) <= most


def test_every_term_changes_the_digest():
    changes = {
        "run": "run-2",
        "round": 2,
        "attempt": 2,
        "order_digest": "1" * 64,
        "sites": ("east", "north", "south", "wext"),
        "quorum": 4,
        "colluders": 0,
        "length": 21,
        "clip_norm": 1.5,
        "noise_multiplier": 2.5,
        "units": 99,
    }
    assert set(changes) == set(SumTerms.model_fields)
    digests = {terms(**{key: value}).digest() for key, value in changes.items()}
    assert len(digests | {terms().digest()}) == len(changes) + 1


# Whole numbers


def test_step_by_hand():
    # Two honest sites make up 2 clips of noise: each has 2 / sqrt(2) = 1.414, so 2 ** 20 steps of 2 ** -20.
    numbers = FixedPoint.of(terms())
    assert numbers.step == 2.0**-20
    assert numbers.bound == 2.0**20
    assert numbers.share_std == pytest.approx(math.sqrt(2) * 2**20, rel=1e-9)
    assert numbers.radius == pytest.approx(1 - math.sqrt(20) * 2.0**-21, rel=1e-8)


@settings(deadline=None, max_examples=100)
@given(st.data())
def test_a_rounded_unit_keeps_the_bound_in_integers(data):
    length = data.draw(st.sampled_from([1, 2, 7, 300]))
    agreed = terms(
        length=length,
        clip_norm=data.draw(st.floats(1e-3, 1e3)),
        noise_multiplier=data.draw(st.floats(0.3, 3e3)),
        units=1,
    )
    numbers = FixedPoint.of(agreed)
    scale = data.draw(st.sampled_from([1e-300, 1e-9, 1e-2, 1.0, 1e3, 1e30, 1e300]))
    values = np.random.default_rng(data.draw(st.integers(0, 10**9))).uniform(-1, 1, length)
    values[: data.draw(st.integers(0, length))] *= data.draw(st.floats(-1, 1))
    rounded = numbers.rounded(values * scale)
    squared = sum(int(value) ** 2 for value in rounded)  # Python's integers: no rounding, no overflow
    assert squared <= Fraction(numbers.bound) ** 2


def test_the_largest_terms_fit():
    many = tuple(sorted(f"site-{k}" for k in range(100)))
    agreed = terms(sites=many, quorum=51, length=10_000_000, noise_multiplier=1e6, units=1_000)
    numbers = FixedPoint.of(agreed)
    assert numbers.largest < 2**53
    assert 0.9989 < numbers.radius / agreed.clip_norm < 1
    assert numbers.share_std < 2**52


def test_a_vector_at_the_worst_halves_keeps_the_bound():
    # Every coordinate is at a half step, so all of them may round away from zero.
    numbers = FixedPoint.of(terms(length=10_000, noise_multiplier=1e4))
    level = math.floor(numbers.radius / numbers.step / 100) - 0.5
    rounded = numbers.rounded(np.full(10_000, level * numbers.step))
    assert sum(int(value) ** 2 for value in rounded) <= Fraction(numbers.bound) ** 2


def test_rounding_is_the_nearest_step_where_the_clip_does_not_bite():
    numbers = FixedPoint.of(terms(length=3))
    vector = np.array([0.25, -0.1, 3 * 2.0**-20])
    np.testing.assert_array_equal(numbers.rounded(vector), [2**18, round(-0.1 * 2**20), 3])


def test_clip_scales_down():
    numbers = FixedPoint.of(terms(length=2))
    np.testing.assert_allclose(numbers.rounded(np.array([30.0, 40.0])) * numbers.step, [0.6, 0.8], atol=1e-5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_counts_as_nothing(bad):
    assert not FixedPoint.of(terms(length=3)).rounded(np.array([0.1, bad, 0.2])).any()


def test_more_units_than_agreed_are_summed_for_a_refusal_would_count_them():
    numbers = FixedPoint.of(terms(length=2, units=2))
    total = numbers.total([np.array([1.0, 0.0])] * 3)
    np.testing.assert_allclose(total * numbers.step, [3.0, 0.0], rtol=2e-3)


def test_too_many_agreed_units_or_coordinates_are_refused():
    numbers = FixedPoint.of(terms(length=2, units=2))
    with pytest.raises(ValueError, match=r"shape \(2,\), got \(3,\)"):
        numbers.rounded(np.zeros(3))
    many = tuple(sorted(f"site-{k}" for k in range(100)))
    with pytest.raises(StudyError, match="could sum to"):
        FixedPoint.of(terms(sites=many, quorum=51, noise_multiplier=0.01, units=1_000_000))


def test_a_sum_comes_back_exactly_and_a_mask_left_in_it_is_seen():
    numbers = FixedPoint.of(terms(length=3))
    steps = np.array([0, -7, 5])
    np.testing.assert_array_equal(numbers.real(steps.view(np.uint64)), steps * numbers.step)
    with pytest.raises(UpdateRefused, match="a mask is left"):
        numbers.real(masks.self_mask(bytes(32), context="x", length=3))


# Noise and its price


def mass(scale: float, reach: int) -> np.ndarray:
    """Chances of the discrete Gaussian on -reach to reach."""
    weights = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * scale**2))
    return weights / weights.sum()


@pytest.mark.parametrize("scale", [0.7, 3.0])
def test_the_sampler_draws_the_discrete_gaussian(scale):
    reach, n = 4 * math.ceil(scale), 8_000
    draws = np.clip(discrete_gaussian(n, scale), -reach, reach)
    counts = np.bincount(draws + reach, minlength=2 * reach + 1)
    expected = mass(scale, reach) * n
    often = expected > 5
    seen = [*counts[often], counts[~often].sum()]
    hoped = [*expected[often], expected[~often].sum()]
    assert stats.chisquare(seen, np.array(hoped) * n / sum(hoped)).pvalue > UNLIKELY


def test_noise_of_a_large_scale_has_its_variance_and_whole_numbers_of_both_parities():
    scale, n = 2.0**20 + 0.25, 8_000
    draws = discrete_gaussian(n, scale)
    assert draws.dtype == np.int64
    spread = float(((draws / scale) ** 2).sum())
    assert UNLIKELY < stats.chi2.cdf(spread, n) < 1 - UNLIKELY
    assert stats.binomtest(int((draws % 2).sum()), n).pvalue > UNLIKELY
    assert not np.array_equal(draws[:50], discrete_gaussian(50, scale))


@pytest.mark.parametrize(("n", "scale"), [(0, 1.0), (1, 0.0), (1, math.nan), (1, math.inf)])
def test_impossible_noise_is_refused(n, scale):
    with pytest.raises(ValueError, match=r"at least 1|must lie"):
        discrete_gaussian(n, scale)


@pytest.mark.parametrize(("honest", "share_std"), [(2, 0.5), (3, 0.6), (4, 0.8), (6, 1.0)])
def test_a_sum_of_discrete_gaussians_is_one_within_tau(honest, share_std):
    # The witness: the sum's chances by convolution, against those of one discrete Gaussian of its variance.
    reach = 30
    one = mass(share_std, reach)
    summed = one
    for _ in range(honest - 1):
        summed = np.convolve(summed, one)
    middle = len(summed) // 2
    span = math.ceil(4 * share_std * math.sqrt(honest))  # where double precision has digits
    single = mass(share_std * math.sqrt(honest), middle)[middle - span : middle + span + 1]
    gap = np.abs(np.log(summed[middle - span : middle + span + 1] / single)).max()
    assert gap <= sum_slack(honest, share_std=share_std)
    assert gap > 1e-12  # the sum is not one: the bound has something to bound


def test_a_continuous_gaussian_rounded_at_random_is_discrete_within_theta():
    # Step 2 of the price for a small r, by quadrature.
    v, r = 1.5, 0.5
    theta = 2 * sum(math.exp(-2 * (math.pi * r * k) ** 2) for k in range(1, 5))
    x = np.linspace(-12, 12, 20_001)
    weights = np.exp(-((np.arange(-20, 21)[:, None] - x) ** 2) / (2 * r**2))
    density = stats.norm.pdf(x, scale=math.sqrt(v**2 - r**2)) * (x[1] - x[0])
    rounded = (weights / weights.sum(axis=0)) @ density
    gap = np.abs(np.log(rounded / mass(v, 20)))[20 - 5 : 20 + 6].max()
    assert 1e-4 < gap <= math.log((1 + theta) / (1 - theta))


def test_at_our_scale_the_slack_does_not_show():
    assert sum_slack(100, share_std=2.0**20) == 0.0  # exp(-10 ** 13) is no float64
    assert 1e9 * 1e7 * ROUNDING_SLACK < 1e-119
    assert sum_slack(1, share_std=1.0) == 0.0


@given(
    st.floats(0.3, 1e4), st.integers(2, 8), st.integers(0, 3), st.floats(1e-3, 1e3), st.integers(1, 50_000)
)
@settings(deadline=None, max_examples=60)
def test_those_counted_on_make_up_the_noise_that_is_paid_for(noise, n, colluders, clip, length):
    quorum = least_quorum(n, colluders=colluders) if colluders < n else n + 1
    if quorum > n:
        return
    agreed = terms(
        sites=tuple("abcdefgh"[:n]),
        quorum=quorum,
        colluders=colluders,
        noise_multiplier=noise,
        clip_norm=clip,
        length=length,
        units=10,
    )
    assert noise <= honest_multiplier(agreed, honest=agreed.honest) <= noise * (1 + 1e-9)
    assert sum_std(agreed, survivors=agreed.honest) == pytest.approx(noise * clip, rel=1e-9)


def test_epsilon_by_colluders_is_the_pilots():
    # Four sites, all counted on, epsilon 3 at delta 1e-5: 3.00, 3.53, 4.46, 6.71 at 0 to 3 colluders.
    sigma = noise_multiplier(epsilon=3.0, delta=1e-5, sampling_rate=1.0, steps=1)
    agreed = terms(quorum=4, colluders=0, noise_multiplier=sigma)
    table = epsilon_table(agreed, sampling_rate=1.0, steps=1, delta=1e-5)
    assert [row.honest for row in table] == [1, 2, 3, 4]
    assert [row.epsilon for row in table] == pytest.approx([6.71, 4.46, 3.53, 3.00], abs=0.01)
    assert table[0].noise_multiplier == pytest.approx(sigma / 2, rel=1e-6)


def test_sizing_for_one_colluder_and_one_drop_out_keeps_epsilon():
    sigma = noise_multiplier(epsilon=3.0, delta=1e-4, sampling_rate=1.0, steps=1)
    agreed = terms(quorum=3, colluders=1, noise_multiplier=sigma)
    table = epsilon_table(agreed, sampling_rate=1.0, steps=1, delta=1e-4)
    assert table[1].epsilon <= 3.0 < table[0].epsilon
    with pytest.raises(ValueError, match="honest must lie in 1 to 4, got 5"):
        epsilon_if_honest(agreed, honest=5, sampling_rate=1.0, steps=1, delta=1e-4)
    with pytest.raises(ValueError, match="at least"):
        sum_slack(0, share_std=1.0)


# Shares, keys, boxes


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


# Messages

DIGEST = "a" * 64
CARD = messages.KeyCard(
    context=DIGEST,
    site="east",
    mask_key=b"1" * 32,
    share_key=b"2" * 32,
    seed_digest=b"3" * 32,
    signature=b"4",
)
MESSAGES = [
    CARD,
    messages.CardList(context=DIGEST, cards=(CARD,)),
    messages.SealedShares(context=DIGEST, site="east", boxes={"west": b"\xff" * masks.BOX_BYTES}),
    messages.Inbox(context=DIGEST, site="east", boxes={"west": b"\x00" * masks.BOX_BYTES}),
    messages.Survivors(context=DIGEST, names=("east", "west")),
    messages.Vow(context=DIGEST, site="east", signature=b"\xfb\xff"),
    messages.Vows(context=DIGEST, signatures={"east": b"\xfb"}),
    messages.Revealed(context=DIGEST, site="east", seeds={"west": b"\xfb" * 32}, mask_keys={}),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_messages_come_back(message):
    assert type(message).from_bytes(message.to_bytes()) == message


def test_a_full_list_of_cards_fits_the_bound():
    card = CARD.model_copy(update={"site": "s" * 63, "signature": b"s" * 160})
    full = messages.CardList(context=DIGEST, cards=(card,) * 100)
    assert len(full.to_bytes()) < messages.MOST_BYTES
    boxes = {f"{'s' * 60}{k:03}": bytes(masks.BOX_BYTES) for k in range(100)}
    assert len(messages.Inbox(context=DIGEST, site="s", boxes=boxes).to_bytes()) < messages.MOST_BYTES


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[" * 50_000,
        b'{"context": 1}',
        CARD.to_bytes().replace(b"east", b"../e"),
        CARD.to_bytes().replace(base64.b64encode(b"1" * 32), base64.b64encode(b"1" * 31)),
        CARD.to_bytes()[:-1] + b', "more": 1}',
        CARD.to_bytes() + b" " * messages.MOST_BYTES,
    ],
)
def test_what_is_no_card_is_refused(data):
    with pytest.raises(UpdateRefused, match="KeyCard"):
        messages.KeyCard.from_bytes(data)


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=200), st.integers(0, 400), st.sampled_from(range(len(MESSAGES))))
def test_nothing_untrusted_crashes_a_reader(noise, at, which):
    whole = MESSAGES[which].to_bytes()
    for data in (noise, whole[:at] + noise + whole[at + len(noise) :]):
        try:
            read = type(MESSAGES[which]).from_bytes(data)
        except UpdateRefused:
            continue
        assert type(read).from_bytes(read.to_bytes()) == read


def test_a_masked_sum_comes_back_and_nothing_else_does():
    vector = np.array([0, 1, 2**64 - 1], dtype=np.uint64)
    data = messages.MaskedSum(DIGEST, "east", vector).to_bytes()
    back = messages.MaskedSum.from_bytes(data, length=3)
    assert (back.context, back.site) == (DIGEST, "east")
    np.testing.assert_array_equal(back.vector, vector)
    for bad in (b"", data[:-1], data + b"x", data.replace(b"3", b"2", 1), b"\n" + data):
        with pytest.raises(UpdateRefused):
            messages.MaskedSum.from_bytes(bad, length=3)
    with pytest.raises(UpdateRefused, match="expected 4"):
        messages.MaskedSum.from_bytes(data, length=4)


def test_statements_are_told_apart():
    cards = messages.CardList(context=DIGEST, cards=(CARD,))
    one = messages.vow_body(cards, sharers=["a", "b"], survivors=["a"])
    assert one == messages.vow_body(cards, sharers=["b", "a"], survivors=["a"])
    assert one != messages.vow_body(cards, sharers=["a"], survivors=["a", "b"])
    assert one != messages.vow_body(
        cards.model_copy(update={"cards": ()}), sharers=["a", "b"], survivors=["a"]
    )
