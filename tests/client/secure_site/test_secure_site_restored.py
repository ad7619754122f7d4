"""A site in a secure sum, kept and restored: the same answers, no secret for longer than it is needed."""

import pytest
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
from willis.shared.errors import StateError
from willis.shared.secure_sum.noise import discrete_gaussian

# Kept and restored


def restored(each: SecureSite) -> SecureSite:
    name = each.name
    return SecureSite.restore(
        each.export(), name, TERMS, signer=SIGNERS[name], roster=ROSTER, noise=discrete_gaussian
    )


def test_a_site_restored_at_every_step_gives_the_same_answers():
    sites = {name: site(name, noise=discrete_gaussian) for name in NAMES}
    cards = cards_of(sites)
    assert cards_of({name: restored(each) for name, each in sites.items()}) == cards
    sites = {name: restored(each) for name, each in sites.items()}
    sealed = sites["a"].share(cards)
    sites["a"] = restored(sites["a"])
    assert sites["a"].share(cards) == sealed
    inboxes = inboxes_of(sites, cards)
    sent = {name: each.masked(inboxes[name], [UNIT]).to_bytes() for name, each in sites.items()}
    sites = {name: restored(each) for name, each in sites.items()}
    assert {name: each.masked(inboxes[name], []).to_bytes() for name, each in sites.items()} == sent
    vows = vows_of(sites, survivors("a", "b", "c"))
    sites = {name: restored(each) for name, each in sites.items()}
    revealed = sites["b"].unmask(vows)
    assert restored(sites["b"]).unmask(vows) == revealed
    assert restored(sites["b"]).vow(survivors("a", "b", "c")).signature == vows.signatures["b"]


def test_own_secrets_are_wiped_once_they_are_used(all_sent):
    assert all_sent["a"]._state.mask_secret is None
    assert all_sent["a"]._state.seed is None
    vows = vows_of(all_sent, survivors(*NAMES))
    all_sent["a"].unmask(vows)
    assert all_sent["a"]._state.held_seeds is None


def test_a_state_that_is_not_this_sums_is_refused(sites):
    kept = sites["a"].export()
    options = {"signer": SIGNERS["a"], "roster": ROSTER, "noise": no_noise}
    with pytest.raises(StateError, match="damaged"):
        SecureSite.restore(kept[:-5], "a", TERMS, **options)
    with pytest.raises(StateError, match="not b's"):
        SecureSite.restore(kept, "b", TERMS, **options)
    with pytest.raises(StateError, match="of sum"):
        SecureSite.restore(kept, "a", TERMS.model_copy(update={"round": 2}), **options)
