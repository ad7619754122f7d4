"""What a site and the coordinator both ask of a message before they use it."""

from collections.abc import Iterable

from willis.shared.errors import UpdateRefused
from willis.shared.secure_sum.identity import Roster
from willis.shared.secure_sum.masks import can_agree
from willis.shared.secure_sum.messages import CardList, KeyCard
from willis.shared.secure_sum.terms import SumTerms


def check_context(what: object, context: str, *, expected: str) -> None:
    """Refuse a message of another run, round, question or agreement.

    Raises:
        UpdateRefused: It is.
    """
    if not context == expected:
        raise UpdateRefused(
            f"{type(what).__name__} is of other terms ({context[:12]}, ours {expected[:12]}): "
            "another run, round or agreement"
        )


def check_card(card: KeyCard, terms: SumTerms, roster: Roster) -> None:
    """Refuse a card that its site did not sign for this sum.

    Raises:
        UpdateRefused: Its site, its terms, its signature or a key is not sound.
    """
    check_context(card, card.context, expected=terms.digest())
    if not (card.site in terms.sites and card.site in roster):
        raise UpdateRefused(f"card of {card.site}, which is not on the roster")
    if not roster[card.site].signed(card.body(), card.signature):
        raise UpdateRefused(f"card of {card.site}: the signature is not the site's")
    if not (can_agree(card.mask_key) and can_agree(card.share_key)):
        # Found later, it would make every peer refuse a sum that it has paid for.
        raise UpdateRefused(f"card of {card.site}: no secret can be agreed with its keys")


def check_cards(cards: CardList, terms: SumTerms, roster: Roster) -> dict[str, KeyCard]:
    """Return the cards by name, each signed for this sum and no key in it twice.

    Raises:
        UpdateRefused: A card is not sound, or there are fewer than a quorum.
    """
    check_context(cards, cards.context, expected=terms.digest())
    for card in cards.cards:
        check_card(card, terms, roster)
    by_name = {card.site: card for card in cards.cards}
    keys = [key for card in cards.cards for key in (card.mask_key, card.share_key)]
    if not (len(by_name) == len(cards.cards) and len(set(keys)) == len(keys)):
        raise UpdateRefused("a site or a key is twice in the list of cards")
    check_quorum("cards", by_name, terms)
    return by_name


def check_quorum(what: str, names: Iterable[str], terms: SumTerms) -> None:
    """Refuse a list of fewer than a quorum.

    Raises:
        UpdateRefused: It is shorter; a sum of so few would show them.
    """
    count = len(set(names))
    if not count >= terms.quorum:
        raise UpdateRefused(f"{count} {what}, at least {terms.quorum} are agreed")
