"""What the coordinator of a secure sum turns away, and what it mends."""

import numpy as np
import pytest
from harness.hub_trial import (
    ROSTER,
    SIGNERS,
    Change,
    Round,
    draw_units,
    no_noise,
    plain_sum,
    terms,
)

from willis.client.secure_site import SecureSite
from willis.server.secure_hub import SecureSum
from willis.shared.errors import UpdateRefused
from willis.shared.secure_sum.messages import MaskedSum, Revealed, SealedShares


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


def play(change: Change) -> SecureSum:
    """The sum of four sites that send what they should, but for the change."""
    return Round(terms(4), change=change).run(draw_units(terms(4)))


def test_shares_for_some_only_are_turned_away():
    def change(step, name, data):
        if (step, name) != (1, "a"):
            return data
        sealed = SealedShares.from_bytes(data)
        return sealed.model_copy(update={"boxes": {"b": sealed.boxes["b"]}}).to_bytes()

    with pytest.raises(UpdateRefused, match="not with all whose cards it got"):
        play(change)


def test_a_masked_sum_of_another_length_is_turned_away():
    def change(step, name, data):
        if (step, name) != (2, "a"):
            return data
        masked = MaskedSum.from_bytes(data, length=6)
        return MaskedSum(masked.context, "a", masked.vector[:5]).to_bytes()

    with pytest.raises(UpdateRefused, match="expected 6"):
        play(change)


def test_a_vow_of_another_is_turned_away():
    vows = {}

    def change(step, name, data):
        if step == 3:
            vows.setdefault("first", data)
            return vows["first"].replace(b'"site":"a"', b'"site":"%s"' % name.encode())
        return data

    with pytest.raises(UpdateRefused, match="b did not sign"):
        play(change)


def test_revealing_other_than_what_was_asked_is_turned_away():
    def change(step, name, data):
        if step != 4:
            return data
        revealed = Revealed.from_bytes(data)
        return revealed.model_copy(update={"mask_keys": {"b": bytes(32)}}).to_bytes()

    with pytest.raises(UpdateRefused, match=r"mask keys of \['b'\]"):
        play(change)


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
    with pytest.raises(UpdateRefused, match=r"shares do not open the secret of [ad]:"):
        play(spoilt("a", "b", kind=kind))


def test_a_masked_sum_that_was_tampered_with_is_seen():
    def change(step, name, data):
        if (step, name) != (2, "a"):
            return data
        masked = MaskedSum.from_bytes(data, length=6)
        return MaskedSum(masked.context, "a", masked.vector + np.uint64(2**63)).to_bytes()

    with pytest.raises(UpdateRefused, match="a mask is left in it, or a site does not clip"):
        play(change)
