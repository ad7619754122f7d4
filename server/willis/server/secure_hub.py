"""The coordinator of one secure sum: what it takes, when a step ends, and the sum that comes out.

A state machine without clock or wire: whoever holds the wire feeds it what came (``take``) and says when a
step's time is over (the method named for what the step hands out). It keeps nothing secret but, at the very
end, the masks that the sites let fall. Semi-honest is enough for the sum to be right; the sites do not trust
it for more (docs/secure_sum.md).
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import combinations, islice

import numpy as np
from jaxtyping import Float, UInt64
from numpy import ndarray

from willis.shared.errors import QuorumMissed, UpdateRefused
from willis.shared.secure_sum import masks
from willis.shared.secure_sum.checks import check_card, check_context
from willis.shared.secure_sum.fixed_point import FixedPoint
from willis.shared.secure_sum.identity import Roster
from willis.shared.secure_sum.messages import (
    CardList,
    Inbox,
    KeyCard,
    MaskedSum,
    Message,
    Revealed,
    SealedShares,
    Survivors,
    Vow,
    Vows,
    vow_body,
)
from willis.shared.secure_sum.privacy import sum_std
from willis.shared.secure_sum.shares import join
from willis.shared.secure_sum.terms import SumTerms

STEPS = ("card", "sealed shares", "masked sum", "vow", "revealed shares")
"""What sites send, by step."""
_MOST_TRIES = 1_000  # choices of shares tried where some are wrong


@dataclass(frozen=True, eq=False)
class SecureSum:
    """What a secure sum gives.

    Attributes:
        total: The noisy sum over the survivors' units: whole multiples of ``step``.
        step: Of the fixed point.
        noise_std: Standard deviation of all survivors' noise in each coordinate; more than the accountant
            is told, which counts on ``terms.honest`` sites alone.
        survivors: Whose units are in it.
    """

    total: Float[ndarray, " coordinate"]
    step: float
    noise_std: float
    survivors: tuple[str, ...]


class SecureHub:
    """The coordinator's side of one secure sum.

    Args:
        terms: As every site builds them from the study.
        roster: Public key of every site, to turn away at once what sites would refuse.
    """

    def __init__(self, terms: SumTerms, roster: Roster) -> None:
        self.terms = terms
        self.step = 0
        self._context = terms.digest()
        self._roster = roster
        self._numbers = FixedPoint.of(terms)
        self._came: tuple[dict[str, bytes], ...] = tuple({} for _ in STEPS)
        self._cards: dict[str, KeyCard] = {}
        self._sealed: dict[str, SealedShares] = {}
        self._masked: dict[str, UInt64[ndarray, " coordinate"]] = {}
        self._vows: dict[str, Vow] = {}
        self._revealed: dict[str, Revealed] = {}

    def awaited(self) -> tuple[str, ...]:
        """Return who has not sent what the present step asks for."""
        return tuple(sorted(set(self._asked()) - set(self._came[self.step])))

    def take(self, site: str, data: bytes) -> None:
        """Take in a site's message of the present step; the same bytes again change nothing.

        Args:
            site: Who sent it, as the wire knows.
            data: What it sent.

        Raises:
            UpdateRefused: It is not sound, another's, late, or not what the site sent before.
        """
        came = self._came[self.step]
        if came.get(site) == data:
            return
        if site in came:
            raise UpdateRefused(f"{site} sent another {STEPS[self.step]} before: the first one counts")
        if site not in self._asked():
            raise UpdateRefused(f"{site} is not asked for a {STEPS[self.step]}: unknown, or late before")
        (self._card, self._shares, self._masked_sum, self._vow, self._reveal)[self.step](site, data)
        came[site] = data

    def cards(self) -> CardList:
        """End step 0: return the list of cards for all who sent one.

        Raises:
            QuorumMissed: Too few came; so for every step. The step goes on.
        """
        self._end(0, self._cards)
        return CardList(context=self._context, cards=tuple(self._cards[name] for name in sorted(self._cards)))

    def inboxes(self) -> dict[str, Inbox]:
        """End step 1: return the inbox of each who shared."""
        self._end(1, self._sealed)
        return {
            site: Inbox(
                context=self._context,
                site=site,
                boxes={
                    sender: self._sealed[sender].boxes[site]
                    for sender in sorted(self._sealed)
                    if sender != site
                },
            )
            for site in sorted(self._sealed)
        }

    def survivors(self) -> Survivors:
        """End step 2: return the list of those whose masked sums came, for each of them to sign."""
        self._end(2, self._masked)
        return Survivors(context=self._context, names=tuple(sorted(self._masked)))

    def vows(self) -> Vows:
        """End step 3: return the vows for each who vowed."""
        self._end(3, self._vows)
        return Vows(
            context=self._context, signatures={name: vow.signature for name, vow in self._vows.items()}
        )

    def total(self) -> SecureSum:
        """End step 4: open the masks and return the sum.

        Steps:
            1. Add up the survivors' masked sums modulo 2 ** 64.
            2. Take away each survivor's own mask, from its seed.
            3. Take away the masks that survivors share with those who dropped out, from the latters' keys.

        Raises:
            UpdateRefused: So many shares are wrong that a secret does not open, or the sum is not sound.
        """
        self._end(4, self._revealed)
        residue = np.zeros(self.terms.length, dtype=np.uint64)
        for words in self._masked.values():
            residue += words
        for site in self._masked:
            seed = self._opened(site, "seeds", self._is_seed)
            residue -= masks.self_mask(seed, context=self._context, length=self.terms.length)
        for site in self._dropped():
            key = self._opened(site, "mask_keys", self._is_mask_key)
            for peer in self._masked:
                # What the survivor added is the negative of what the one who dropped out would have.
                residue += masks.pair_mask(
                    key,
                    self._cards[peer].mask_key,
                    me=site,
                    peer=peer,
                    context=self._context,
                    length=self.terms.length,
                )
        survivors = tuple(sorted(self._masked))
        return SecureSum(
            self._numbers.real(residue),
            self._numbers.step,
            sum_std(self.terms, survivors=len(survivors)),
            survivors,
        )

    def _asked(self) -> Iterable[str]:
        """Return who may send what the present step asks for."""
        return (self.terms.sites, self._cards, self._sealed, self._masked, self._vows)[self.step]

    def _dropped(self) -> list[str]:
        return sorted(set(self._sealed) - set(self._masked))

    def _end(self, step: int, came: Iterable[str]) -> None:
        if self.step not in (step, step + 1):
            raise ValueError(f"step {step} ({STEPS[step]}) cannot end in step {self.step}")
        missing = sorted(set(self.terms.sites) - set(came))
        count, n = len(set(came)), len(self.terms.sites)
        if not count >= self.terms.quorum:
            raise QuorumMissed(
                f"step {step} of a secure sum: {count} of {n} sites sent a {STEPS[step]}, at least "
                f"{self.terms.quorum} are needed; missing {missing}; nothing was opened"
            )
        self.step = min(step + 1, len(STEPS) - 1)

    def _card(self, site: str, data: bytes) -> None:
        card = KeyCard.from_bytes(data)
        self._own(card, card.site, site)
        check_card(card, self.terms, self._roster)
        self._cards[site] = card

    def _shares(self, site: str, data: bytes) -> None:
        sealed = SealedShares.from_bytes(data)
        self._own(sealed, sealed.site, site)
        if not set(sealed.boxes) == set(self._cards) - {site}:
            raise UpdateRefused(f"{site} shares with {sorted(sealed.boxes)}, not with all whose cards it got")
        self._sealed[site] = sealed

    def _masked_sum(self, site: str, data: bytes) -> None:
        masked = MaskedSum.from_bytes(data, length=self.terms.length)
        check_context(masked, masked.context, expected=self._context)
        self._name(masked.site, site)
        self._masked[site] = masked.vector

    def _vow(self, site: str, data: bytes) -> None:
        vow = Vow.from_bytes(data)
        self._own(vow, vow.site, site)
        cards = CardList(context=self._context, cards=tuple(self._cards.values()))
        statement = vow_body(cards, sharers=list(self._sealed), survivors=list(self._masked))
        if not self._roster[site].signed(statement, vow.signature):
            raise UpdateRefused(f"{site} did not sign the list of survivors that it was sent")
        self._vows[site] = vow

    def _reveal(self, site: str, data: bytes) -> None:
        revealed = Revealed.from_bytes(data)
        self._own(revealed, revealed.site, site)
        if not (set(revealed.seeds) == set(self._masked) and set(revealed.mask_keys) == set(self._dropped())):
            raise UpdateRefused(
                f"{site} reveals seeds of {sorted(revealed.seeds)} and mask keys of "
                f"{sorted(revealed.mask_keys)}, asked for {sorted(self._masked)} and {self._dropped()}"
            )
        self._revealed[site] = revealed

    def _own(self, message: Message, named: str, site: str) -> None:
        check_context(message, message.context, expected=self._context)
        self._name(named, site)

    def _name(self, named: str, site: str) -> None:
        if not named == site:
            raise UpdateRefused(f"{site} sent a message in the name of {named}")

    def _opened(self, site: str, kind: str, sound: Callable[[str, bytes], bool]) -> bytes:
        """Return a site's secret from the first quorum of shares that opens it."""
        shares = {self.terms.number(who): getattr(said, kind)[site] for who, said in self._revealed.items()}
        choices = combinations(sorted(shares), self.terms.quorum)
        for choice in islice(choices, _MOST_TRIES):
            secret = join({number: shares[number] for number in choice})
            if sound(site, secret):
                return secret
        raise UpdateRefused(
            f"{len(shares)} shares do not open the secret of {site}: some are wrong in every quorum of them; "
            "the round is lost, try it anew without whoever cheats"
        )

    def _is_seed(self, site: str, seed: bytes) -> bool:
        return masks.seed_digest(seed, context=self._context) == self._cards[site].seed_digest

    def _is_mask_key(self, site: str, key: bytes) -> bool:
        return masks.public_key(key) == self._cards[site].mask_key
