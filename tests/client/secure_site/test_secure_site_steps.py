"""A site in a secure sum: what it answers and what it refuses, step by step."""

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from harness.secure_trial import (
    NAMES,
    ROSTER,
    SIGNERS,
    TERMS,
    UNIT,
    cards_of,
    inboxes_of,
    no_noise,
    site,
    survivors,
    vows_of,
)

from willis.client.secure_site import SecureSite
from willis.shared.errors import SiteRefused, StudyError, UpdateRefused
from willis.shared.secure_sum import masks
from willis.shared.secure_sum.checks import check_card
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.secure_sum.messages import CardList, Inbox, KeyCard, Vows, card_body
from willis.shared.secure_sum.noise import discrete_gaussian

# Step 0


def test_a_site_needs_its_own_name_and_every_key():
    with pytest.raises(StudyError, match="eve"):
        SecureSite("eve", TERMS, signer=SIGNERS["eve"], roster=ROSTER, noise=no_noise)
    with pytest.raises(StudyError, match=r"lacks a key of \['d'\]"):
        SecureSite("a", TERMS, signer=SIGNERS["a"], roster={k: ROSTER[k] for k in "abc"}, noise=no_noise)


def test_keys_are_fresh_in_every_sum_and_the_same_within_one(sites):
    assert sites["a"].advertise() == sites["a"].advertise()
    other = site("a").advertise()
    assert other.mask_key != sites["a"].advertise().mask_key
    assert other.share_key != other.mask_key


# Step 1


def swapped(cards: CardList, name: str, **changes) -> CardList:
    """The list with one card changed."""
    return cards.model_copy(
        update={
            "cards": tuple(
                card.model_copy(update=changes) if card.site == name else card for card in cards.cards
            )
        }
    )


def test_a_swapped_key_is_refused(sites, cards):
    evil = masks.public_key(masks.fresh_key())
    for field in ("mask_key", "share_key", "seed_digest"):
        with pytest.raises(UpdateRefused, match="card of b: the signature"):
            sites["a"].share(swapped(cards, "b", **{field: evil}))


def test_a_card_signed_by_another_is_refused(sites, cards):
    one, two, three = (masks.public_key(masks.fresh_key()) for _ in range(3))
    keys = (one, two, three)
    forged = SIGNERS["eve"].sign(card_body("b", TERMS.digest(), keys))
    changes = {"mask_key": keys[0], "share_key": keys[1], "seed_digest": keys[2], "signature": forged}
    with pytest.raises(UpdateRefused, match="card of b: the signature"):
        sites["a"].share(swapped(cards, "b", **changes))


@pytest.mark.parametrize("change", [{"round": 2}, {"run": "old"}, {"attempt": 2}, {"order_digest": "1" * 64}])
def test_cards_of_another_sum_are_refused(sites, cards, change):
    old = site("b", TERMS.model_copy(update=change)).advertise()
    replayed = cards.model_copy(
        update={"cards": tuple(old if card.site == "b" else card for card in cards.cards)}
    )
    with pytest.raises(UpdateRefused, match="of other terms"):
        sites["a"].share(replayed)
    with pytest.raises(UpdateRefused, match="of other terms"):
        sites["a"].share(cards.model_copy(update={"context": "f" * 64}))
    with pytest.raises(UpdateRefused, match="signature"):
        sites["a"].share(swapped(replayed, "b", context=TERMS.digest()))


def test_a_stranger_a_twin_a_short_list_or_a_list_without_oneself_is_refused(sites, cards):
    stranger = swapped(cards, "b", site="eve")
    with pytest.raises(UpdateRefused, match="eve, which is not on the roster"):
        sites["a"].share(stranger)
    with pytest.raises(UpdateRefused, match="twice"):
        sites["a"].share(cards.model_copy(update={"cards": (*cards.cards, cards.cards[1])}))
    with pytest.raises(UpdateRefused, match="2 cards, at least 3"):
        sites["a"].share(cards.model_copy(update={"cards": cards.cards[:2]}))
    with pytest.raises(UpdateRefused, match="lacks a's own"):
        sites["a"].share(cards.model_copy(update={"cards": cards.cards[1:]}))


def test_a_site_answers_one_list_of_cards_with_the_same_boxes(sites, cards):
    assert sites["a"].share(cards) == sites["a"].share(cards)
    with pytest.raises(SiteRefused, match="another list of cards"):
        sites["a"].share(cards.model_copy(update={"cards": cards.cards[:3]}))


def test_keys_on_p384_do_as_well():
    signers = {name: NodeKey(ec.generate_private_key(ec.SECP384R1())) for name in NAMES}
    roster = {name: key.identity for name, key in signers.items()}
    sites = {
        name: SecureSite(name, TERMS, signer=signers[name], roster=roster, noise=no_noise) for name in NAMES
    }
    assert set(inboxes_of(sites, cards_of(sites))) == set(NAMES)


def test_a_key_that_agrees_on_one_secret_with_all_is_refused_before_anybody_pays():
    """Of small order (RFC 7748, section 6.1); its owner signed it."""
    keys = (bytes(32), masks.public_key(masks.fresh_key()), masks.fresh_key())
    for mask_key, share_key in ((keys[0], keys[1]), (keys[1], keys[0])):
        every = (mask_key, share_key, keys[2])
        card = KeyCard(
            context=TERMS.digest(),
            site="b",
            mask_key=mask_key,
            share_key=share_key,
            seed_digest=keys[2],
            signature=SIGNERS["b"].sign(card_body("b", TERMS.digest(), every)),
        )
        with pytest.raises(UpdateRefused, match="card of b: no secret can be agreed"):
            check_card(card, TERMS, ROSTER)


# Step 2


def test_a_masked_sum_is_given_once_and_its_units_are_looked_at_once():
    looks = []

    def units():
        looks.append(1)
        yield UNIT

    sites = {name: site(name, noise=discrete_gaussian) for name in NAMES}
    mine = inboxes_of(sites, cards_of(sites))["a"]
    first = sites["a"].masked(mine, units())
    assert sites["a"].masked(mine, units()).to_bytes() == first.to_bytes()
    smaller = mine.model_copy(update={"boxes": {name: mine.boxes[name] for name in "bc"}})
    with pytest.raises(SiteRefused, match="another inbox"):
        sites["a"].masked(smaller, units())
    assert looks == [1]


def test_an_inbox_that_is_not_sound_is_refused(sites, inboxes):
    mine = inboxes["a"]
    with pytest.raises(UpdateRefused, match="not a's"):
        sites["a"].masked(inboxes["b"], [])
    with pytest.raises(UpdateRefused, match="2 sites that shared"):
        sites["a"].masked(mine.model_copy(update={"boxes": {"b": mine.boxes["b"]}}), [])
    with pytest.raises(UpdateRefused, match="does not open"):
        sites["a"].masked(mine.model_copy(update={"boxes": mine.boxes | {"b": mine.boxes["c"]}}), [])
    with pytest.raises(UpdateRefused, match="of other terms"):
        sites["a"].masked(mine.model_copy(update={"context": "f" * 64}), [])
    with pytest.raises(SiteRefused, match="has not shared"):
        site("a").masked(mine, [])
    # None of that cost the site its one answer.
    assert len(sites["a"].masked(mine, [UNIT]).vector) == 5


# Steps 3 and 4


def test_nothing_is_signed_or_revealed_out_of_turn(sites, inboxes):
    with pytest.raises(SiteRefused, match="no masked sum"):
        sites["a"].vow(survivors(*NAMES))
    with pytest.raises(SiteRefused, match="no list of survivors"):
        sites["a"].unmask(Vows(context=TERMS.digest(), signatures={}))


@pytest.mark.parametrize(
    ("names", "fault"),
    [
        (("b", "c", "d"), "a with them"),
        (("a", "b"), "2 survivors, at least 3"),
        (("a", "b", "eve"), "among those who shared"),
        (("a", "b", "b"), "each once"),
    ],
)
def test_a_list_of_survivors_that_is_not_sound_is_not_signed(all_sent, names, fault):
    with pytest.raises(UpdateRefused, match=fault):
        all_sent["a"].vow(survivors(*names))
    with pytest.raises(UpdateRefused, match="of other terms"):
        all_sent["a"].vow(survivors(*NAMES).model_copy(update={"context": "f" * 64}))


def test_the_coordinator_never_gets_both_shares_of_one_site(all_sent):
    # It shows a, b and c two lists: with d (for d's seed) and without (for d's mask key).
    everyone, without = survivors(*NAMES), survivors("a", "b", "c")
    vows = vows_of(all_sent, everyone)
    revealed = all_sent["a"].unmask(vows)
    assert set(revealed.seeds) == set(NAMES)
    assert revealed.mask_keys == {}
    with pytest.raises(SiteRefused, match="another list of survivors"):
        all_sent["a"].vow(without)
    assert all_sent["a"].unmask(Vows(context=TERMS.digest(), signatures={})) == revealed


def test_two_lists_shown_to_different_sites_open_nothing(all_sent):
    everyone, without = survivors(*NAMES), survivors("a", "b", "c")
    mixed = {
        "a": all_sent["a"].vow(everyone).signature,
        "b": all_sent["b"].vow(without).signature,
        "c": all_sent["c"].vow(without).signature,
    }
    vows = Vows(context=TERMS.digest(), signatures=mixed)
    for name, other in (("a", "b"), ("b", "a"), ("c", "a")):
        with pytest.raises(UpdateRefused, match=f"{other} did not sign"):
            all_sent[name].unmask(vows)
        own = Vows(context=TERMS.digest(), signatures={name: mixed[name]})
        with pytest.raises(UpdateRefused, match="1 vows, at least 3"):
            all_sent[name].unmask(own)


def test_a_vow_of_another_round_or_of_a_stranger_is_refused(all_sent):
    shown = survivors("a", "b", "c")
    good = vows_of(all_sent, shown)
    later = TERMS.model_copy(update={"round": 2})
    others = {name: site(name, later) for name in NAMES}
    boxes = inboxes_of(others, cards_of(others))
    for name in "abc":
        others[name].masked(boxes[name], [])
    replayed = vows_of(others, survivors("a", "b", "c", terms=later)).signatures
    with pytest.raises(UpdateRefused, match="did not sign"):
        all_sent["a"].unmask(Vows(context=TERMS.digest(), signatures=replayed))
    with pytest.raises(UpdateRefused, match="d did not sign"):
        all_sent["a"].unmask(Vows(context=TERMS.digest(), signatures=good.signatures | {"d": b"x"}))
    revealed = all_sent["a"].unmask(good)
    assert set(revealed.seeds) == {"a", "b", "c"}
    assert set(revealed.mask_keys) == {"d"}


def test_sites_that_saw_other_cards_do_not_open_for_each_other():
    # d has two cards; the coordinator shows one to a and the other to b and c.
    sites = {name: site(name) for name in NAMES}
    twin = site("d")
    usual, other = cards_of(sites), cards_of(sites | {"d": twin})
    sealed = {"a": sites["a"].share(usual), "b": sites["b"].share(other), "c": sites["c"].share(other)}
    for name in "abc":
        boxes = {sender: said.boxes[name] for sender, said in sealed.items() if sender != name}
        sites[name].masked(Inbox(context=TERMS.digest(), site=name, boxes=boxes), [])
    vows = vows_of(sites, survivors("a", "b", "c"))
    with pytest.raises(UpdateRefused, match="did not sign"):
        sites["a"].unmask(vows)
