"""The coordinator of a secure sum: the sum it gets, who may drop out and when, and what it turns away."""

import math
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from willis.client.secure_site import SecureSite
from willis.server.secure_hub import STEPS, SecureHub, SecureSum
from willis.shared.errors import QuorumMissed, UpdateRefused
from willis.shared.secure_sum.fixed_point import FixedPoint
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.secure_sum.messages import MaskedSum, Revealed, SealedShares
from willis.shared.secure_sum.noise import discrete_gaussian
from willis.shared.secure_sum.privacy import honest_multiplier
from willis.shared.secure_sum.terms import SumTerms, least_quorum

ALL = ("a", "b", "c", "d", "e", "f")
SIGNERS = {name: NodeKey(ed25519.Ed25519PrivateKey.generate()) for name in ALL}
ROSTER = {name: signer.identity for name, signer in SIGNERS.items()}
UNLIKELY = 1e-6  # right noise fails a test so often
Units = Mapping[str, list[np.ndarray]]
Change = Callable[[int, str, bytes], bytes | None]


def terms(n: int = 4, **changes) -> SumTerms:
    fields = {
        "run": "run",
        "round": 1,
        "order_digest": "0" * 64,
        "sites": ALL[:n],
        "colluders": 0,
        "quorum": least_quorum(n, colluders=0),
        "length": 6,
        "clip_norm": 1.0,
        "noise_multiplier": 2.0,
    }
    return SumTerms(**(fields | changes))


def no_noise(n: int, scale: float) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


def draw_units(agreed: SumTerms, *, per_site: int = 3, seed: int = 0) -> dict[str, list[np.ndarray]]:
    chance = np.random.default_rng(seed)
    return {
        name: [chance.normal(size=agreed.length) * chance.uniform(0, 2) for _ in range(per_site)]
        for name in agreed.sites
    }


class Round:
    """One round between real sites and a real hub, all messages as bytes.

    ``change`` may alter what a site sends at a step, or lose it (None).
    """

    def __init__(self, agreed: SumTerms, *, noise=no_noise, change: Change | None = None) -> None:
        self.hub = SecureHub(agreed, ROSTER)
        self.sites = {
            name: SecureSite(name, agreed, signer=SIGNERS[name], roster=ROSTER, noise=noise)
            for name in agreed.sites
        }
        self.change = change or (lambda step, name, data: data)

    def send(self, step: int, name: str, message) -> None:
        data = self.change(step, name, message.to_bytes())
        if data is not None:
            self.hub.take(name, data)

    def run(self, units: Units) -> SecureSum:
        for name, site in self.sites.items():
            self.send(0, name, site.advertise())
        cards = self.hub.cards()
        for name in [card.site for card in cards.cards]:
            self.send(1, name, self.sites[name].share(cards))
        inboxes = self.hub.inboxes()
        for name, inbox in inboxes.items():
            self.send(2, name, self.sites[name].masked(inbox, units[name]))
        survivors = self.hub.survivors()
        for name in survivors.names:
            self.send(3, name, self.sites[name].vow(survivors))
        vows = self.hub.vows()
        for name in vows.signatures:
            self.send(4, name, self.sites[name].unmask(vows))
        return self.hub.total()


def losing(drops: Mapping[str, int]) -> Change:
    """Sites that send nothing from a step on."""
    return lambda step, name, data: None if step >= drops.get(name, len(STEPS)) else data


def plain_sum(agreed: SumTerms, units: Units, names: tuple[str, ...]) -> np.ndarray:
    """The naive witness: clip, round and add in a loop, in Python's own integers."""
    numbers = FixedPoint.of(agreed)
    total = [0] * agreed.length
    for name in names:
        for unit in units[name]:
            length = math.sqrt(math.fsum(float(x) ** 2 for x in unit))
            factor = min(1.0, numbers.radius / length)
            for place, x in enumerate(unit):
                total[place] += round(float(x) * factor / numbers.step)
    return np.array(total)


@pytest.mark.parametrize("n", [2, 3, 4, 5, 6])
def test_the_sum_is_exact_to_the_step(n):
    agreed = terms(n)
    units = draw_units(agreed, seed=n)
    result = Round(agreed).run(units)
    assert result.survivors == agreed.sites
    steps = result.total / result.step
    np.testing.assert_array_equal(steps, np.rint(steps))
    np.testing.assert_array_equal(steps, plain_sum(agreed, units, agreed.sites))


@settings(deadline=None, max_examples=15)
@given(st.integers(2, 6), st.integers(0, 2**31), st.floats(0.3, 100), st.floats(1e-3, 1e3))
def test_the_sum_is_exact_for_any_terms(n, seed, noise, clip):
    agreed = terms(n, noise_multiplier=noise, clip_norm=clip, length=3, units=4)
    units = {name: [unit * clip for unit in mine] for name, mine in draw_units(agreed, seed=seed).items()}
    result = Round(agreed).run(units)
    # The witness divides in another order: a coordinate within 1e-6 of a half step may round to either side.
    np.testing.assert_allclose(result.total / result.step, plain_sum(agreed, units, agreed.sites), atol=1)
    real = sum(
        (unit * min(1.0, clip / np.linalg.norm(unit)) for mine in units.values() for unit in mine),
        np.zeros(3),
    )
    np.testing.assert_allclose(result.total, real, atol=0.002 * clip * 3 * n)


@pytest.mark.parametrize("step", range(5))
def test_a_site_that_drops_at_any_step_is_recovered(step):
    agreed = terms(4)
    units = draw_units(agreed)
    result = Round(agreed, change=losing({"c": step})).run(units)
    # Whose masked sum came (it went silent at step 3 or later) counts; whose did not, does not.
    assert result.survivors == (("a", "b", "d") if step <= 2 else ("a", "b", "c", "d"))
    np.testing.assert_array_equal(result.total / result.step, plain_sum(agreed, units, result.survivors))


@pytest.mark.parametrize("steps", [(0, 2), (1, 2), (2, 2), (2, 3), (0, 4), (3, 4), (1, 3)])
def test_two_of_six_that_drop_at_different_steps_are_recovered(steps):
    agreed = terms(6)
    units = draw_units(agreed)
    drops = dict(zip("be", steps, strict=True))
    result = Round(agreed, change=losing(drops)).run(units)
    assert result.survivors == tuple(name for name in agreed.sites if drops.get(name, 5) > 2)
    np.testing.assert_array_equal(result.total / result.step, plain_sum(agreed, units, result.survivors))


@pytest.mark.parametrize("step", range(5))
def test_below_the_quorum_the_step_says_so_and_nothing_is_opened(step):
    play = Round(terms(4), change=losing({"b": step, "c": step}))
    with pytest.raises(QuorumMissed, match=rf"step {step} .*2 of 4 sites sent a {STEPS[step]}.*\['b', 'c'\]"):
        play.run(draw_units(terms(4)))


def test_an_answer_that_comes_after_all_mends_a_missed_quorum():
    agreed = terms(4)
    play = Round(agreed)
    for name in "ab":
        play.send(0, name, play.sites[name].advertise())
    with pytest.raises(QuorumMissed):
        play.hub.cards()
    assert play.hub.awaited() == ("c", "d")
    play.send(0, "c", play.sites["c"].advertise())
    assert [card.site for card in play.hub.cards().cards] == ["a", "b", "c"]
    assert play.hub.awaited() == ("a", "b", "c")
    with pytest.raises(UpdateRefused, match="d is not asked for a sealed shares"):
        play.hub.take("d", b"")
    with pytest.raises(ValueError, match="cannot end in step 1"):
        play.hub.survivors()


def test_no_units_at_all_is_a_sum_of_zero():
    assert not Round(terms(3)).run({name: [] for name in ALL}).total.any()


@pytest.mark.parametrize("drops", [{}, {"c": 0}, {"c": 2}, {"c": 3}], ids=str)
def test_the_noise_of_the_sum_has_the_variance_it_says(drops):
    agreed = terms(4, quorum=3, colluders=1, length=1_500, noise_multiplier=3.0)
    units = draw_units(agreed, per_site=1)
    result = Round(agreed, noise=discrete_gaussian, change=losing(drops)).run(units)
    noise = result.total / result.step - plain_sum(agreed, units, result.survivors)
    spread = float(((noise * result.step / result.noise_std) ** 2).sum())
    assert UNLIKELY < stats.chi2.cdf(spread, agreed.length) < 1 - UNLIKELY
    # What it says: of n survivors, two (quorum less colluders) make up what the accountant is told.
    n = len(result.survivors)
    assert result.noise_std == pytest.approx(3.0 * math.sqrt(n / 2), rel=1e-9)
    assert honest_multiplier(agreed, honest=2) >= 3.0


def test_noise_differs_from_coordinate_to_coordinate_and_round_to_round():
    agreed = terms(3, length=50)
    nothing = {name: [] for name in ALL}
    first, second = (Round(agreed, noise=discrete_gaussian).run(nothing).total for _ in range(2))
    assert len(set(first) | set(second)) == 100


# What the hub turns away


def test_a_message_is_taken_once_and_from_its_sender():
    play = Round(terms(3))
    card = play.sites["a"].advertise().to_bytes()
    play.hub.take("a", card)
    play.hub.take("a", card)
    other = SecureSite("a", terms(3), signer=SIGNERS["a"], roster=ROSTER, noise=no_noise).advertise()
    with pytest.raises(UpdateRefused, match="a sent another card"):
        play.hub.take("a", other.to_bytes())
    with pytest.raises(UpdateRefused, match="in the name of a"):
        play.hub.take("b", card)
    with pytest.raises(UpdateRefused, match="zoe is not asked"):
        play.hub.take("zoe", card)
    with pytest.raises(UpdateRefused, match="not a KeyCard"):
        play.hub.take("b", b"rot")
    assert play.hub.awaited() == ("b", "c")


def test_a_card_that_its_site_did_not_sign_is_turned_away():
    play = Round(terms(3))
    card = play.sites["a"].advertise()
    forged = card.model_copy(update={"signature": SIGNERS["b"].sign(card.body())})
    with pytest.raises(UpdateRefused, match="signature is not the site's"):
        play.hub.take("a", forged.to_bytes())
    old = SecureSite("a", terms(3, round=9), signer=SIGNERS["a"], roster=ROSTER, noise=no_noise)
    with pytest.raises(UpdateRefused, match="other terms"):
        play.hub.take("a", old.advertise().to_bytes())


def refused(change: Change, match: str, *, n: int = 4) -> None:
    with pytest.raises(UpdateRefused, match=match):
        Round(terms(n), change=change).run(draw_units(terms(n)))


def test_shares_for_some_only_are_turned_away():
    def change(step, name, data):
        if (step, name) != (1, "a"):
            return data
        sealed = SealedShares.from_bytes(data)
        return sealed.model_copy(update={"boxes": {"b": sealed.boxes["b"]}}).to_bytes()

    refused(change, "not with all whose cards it got")


def test_a_masked_sum_of_another_length_is_turned_away():
    def change(step, name, data):
        if (step, name) != (2, "a"):
            return data
        masked = MaskedSum.from_bytes(data, length=6)
        return MaskedSum(masked.context, "a", masked.vector[:5]).to_bytes()

    refused(change, "expected 6")


def test_a_vow_of_another_is_turned_away():
    vows = {}

    def change(step, name, data):
        if step == 3:
            vows.setdefault("first", data)
            return vows["first"].replace(b'"site":"a"', b'"site":"%s"' % name.encode())
        return data

    refused(change, "b did not sign")


def test_revealing_other_than_what_was_asked_is_turned_away():
    def change(step, name, data):
        if step != 4:
            return data
        revealed = Revealed.from_bytes(data)
        return revealed.model_copy(update={"mask_keys": {"b": bytes(32)}}).to_bytes()

    refused(change, r"mask keys of \['b'\]")


def spoilt(*liars: str, kind: str) -> Change:
    """Sites that reveal wrong shares."""

    def change(step, name, data):
        if step == 2 and name == "d" and kind == "mask_keys":
            return None  # someone must drop out for mask keys to be revealed
        if step != 4 or name not in liars:
            return data
        revealed = Revealed.from_bytes(data)
        wrong = {site: bytes(32) for site in getattr(revealed, kind)}
        return revealed.model_copy(update={kind: wrong}).to_bytes()

    return change


@pytest.mark.parametrize("kind", ["seeds", "mask_keys"])
def test_a_wrong_share_is_set_aside_where_enough_are_right(kind):
    agreed = terms(5)
    units = draw_units(agreed)
    result = Round(agreed, change=spoilt("a", kind=kind)).run(units)
    np.testing.assert_array_equal(result.total / result.step, plain_sum(agreed, units, result.survivors))


@pytest.mark.parametrize("kind", ["seeds", "mask_keys"])
def test_too_many_wrong_shares_lose_the_round_and_say_whose(kind):
    refused(spoilt("a", "b", kind=kind), "shares do not open the secret of [ad]:")


def test_a_masked_sum_that_was_tampered_with_is_seen():
    def change(step, name, data):
        if (step, name) != (2, "a"):
            return data
        masked = MaskedSum.from_bytes(data, length=6)
        return MaskedSum(masked.context, "a", masked.vector + np.uint64(2**63)).to_bytes()

    refused(change, "a mask is left in it, or a site does not clip")
