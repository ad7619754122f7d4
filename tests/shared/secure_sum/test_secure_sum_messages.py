"""The messages of a secure sum: they come back, and nothing untrusted crashes a reader."""

import base64

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import UpdateRefused
from willis.shared.secure_sum import masks, messages

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
