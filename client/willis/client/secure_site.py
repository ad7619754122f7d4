"""One site in one secure sum: five steps, each answered once, each check its own (Bonawitz 2017, figure 4).

What was answered is answered again with the same bytes; another question of the same step is refused. So a
coordinator that asks twice learns nothing twice. The state can be kept and restored between any two steps:
keep it (``export``) before an answer leaves, or a crash could release a second noisy sum for one payment.
"""

from collections.abc import Iterable
from typing import Self, TypeVar

import numpy as np
from jaxtyping import Float, UInt64
from numpy import ndarray
from pydantic import ValidationError

from willis.shared.errors import SiteRefused, StateError, StudyError, UpdateRefused
from willis.shared.secure_sum import masks
from willis.shared.secure_sum.checks import check_cards, check_context, check_quorum
from willis.shared.secure_sum.escrow import Secrets, SharePair, entrust, opened
from willis.shared.secure_sum.fixed_point import FixedPoint
from willis.shared.secure_sum.identity import Roster, Signer
from willis.shared.secure_sum.messages import (
    CardList,
    Inbox,
    Key,
    KeyCard,
    Keys,
    MaskedSum,
    Message,
    Revealed,
    SealedShares,
    Survivors,
    Vow,
    Vows,
    card_body,
    vow_body,
)
from willis.shared.secure_sum.noise import NoiseSource
from willis.shared.secure_sum.terms import SumTerms

Answer = TypeVar("Answer", SealedShares, MaskedSum, Vow)


class _State(Message):
    """All that a site knows in one sum; its own secrets are wiped once they are used."""

    card: KeyCard
    mask_secret: Key | None
    share_secret: Key | None
    seed: Key | None
    cards: CardList | None = None
    own_shares: tuple[Key, Key] | None = None  # of its own mask key and seed
    sealed: SealedShares | None = None
    inbox: Inbox | None = None
    held_mask_keys: Keys | None = None
    held_seeds: Keys | None = None
    masked: bytes | None = None
    survivors: Survivors | None = None
    vow: Vow | None = None
    revealed: Revealed | None = None


class SecureSite:
    """A site's side of one secure sum.

    Args:
        name: The site.
        terms: Built by the site from the study it agreed to, never taken from the coordinator.
        signer: Its node key.
        roster: Public key of every site, from the site's own settings.
        noise: :func:`~willis.shared.secure_sum.noise.discrete_gaussian`; another in tests alone.

    Raises:
        StudyError: The name or a key is missing, or the terms do not fit whole numbers.
    """

    def __init__(
        self, name: str, terms: SumTerms, *, signer: Signer, roster: Roster, noise: NoiseSource
    ) -> None:
        missing = sorted(set(terms.sites) - set(roster))
        if not (name in terms.sites and not missing):
            raise StudyError(f"{name} of {list(terms.sites)}: the roster lacks a key of {missing}")
        self.name, self.terms = name, terms
        self._context = terms.digest()
        self._numbers = FixedPoint.of(terms)
        self._signer, self._roster, self._noise = signer, roster, noise
        self._state = self._fresh()

    def advertise(self) -> KeyCard:
        """Step 0: return the site's public keys for this sum, signed."""
        return self._state.card

    def share(self, cards: CardList) -> SealedShares:
        """Step 1: share the site's two secrets among those whose cards came.

        Raises:
            UpdateRefused: A card is not signed by its site for this sum, or they are fewer than a quorum.
            SiteRefused: The site answered another list.
        """
        state = self._state
        if state.sealed:
            return self._again(state.sealed, state.cards == cards, "list of cards")
        by_name = check_cards(cards, self.terms, self._roster)
        if by_name.get(self.name) != state.card:
            raise UpdateRefused(f"the list of cards lacks {self.name}'s own, as it was sent")
        own_shares, boxes = entrust(self._secrets(), by_name, me=self.name, terms=self.terms)
        sealed = SealedShares(context=self._context, site=self.name, boxes=boxes)
        self._set(cards=cards, own_shares=own_shares, sealed=sealed)
        return sealed

    def prove(self, inbox: Inbox) -> None:
        """Refuse what :meth:`masked` would refuse; asked before the sum is paid for."""
        self._opened(inbox)

    def masked(self, inbox: Inbox, units: Iterable[Float[ndarray, " coordinate"]]) -> MaskedSum:
        """Step 2: return the noisy sum of the site's units, under masks.

        Steps:
            1. Open the boxes of all who shared.
            2. Clip and round each unit's vector; add them up.
            3. Add this site's share of the noise.
            4. Add the site's own mask, and one mask for each who shared.
            5. Wipe the secrets that made them.

        Guarantees:
            The noise is drawn once: asked again, the site gives the same words and looks at no unit.

        Raises:
            UpdateRefused: A box does not open, or they are fewer than a quorum.
            SiteRefused: It is not time, or the site answered another inbox.
        """
        state = self._state
        if state.masked is not None:
            kept = MaskedSum(
                self._context, self.name, np.frombuffer(state.masked, dtype="<u8").astype(np.uint64)
            )
            return self._again(kept, state.inbox == inbox, "inbox")
        cards, secrets, held = self._opened(inbox)
        if state.own_shares:
            held[self.name] = state.own_shares
        total = self._numbers.total(units)
        total += self._noise(self.terms.length, self._numbers.share_std)
        words = total.view(np.uint64)
        words += masks.self_mask(secrets.seed, context=self._context, length=self.terms.length)
        for peer in inbox.boxes:
            words += self._pair_mask(secrets.mask_key, cards[peer])
        self._set(
            inbox=inbox,
            held_mask_keys={site: mask_key for site, (mask_key, _) in held.items()},
            held_seeds={site: seed for site, (_, seed) in held.items()},
            masked=words.astype("<u8").tobytes(),
            mask_secret=None,
            share_secret=None,
            seed=None,
        )
        return MaskedSum(self._context, self.name, words)

    def vow(self, survivors: Survivors) -> Vow:
        """Step 3: sign the list of those whose sums came, and the cards and sharers as this site saw them.

        Raises:
            UpdateRefused: The list is not sound, too short, or lacks this site.
            SiteRefused: It is not time, or the site signed another list.
        """
        state = self._state
        if state.vow:
            return self._again(state.vow, state.survivors == survivors, "list of survivors")
        if state.masked is None:
            raise SiteRefused(f"{self.name} has sent no masked sum: it signs no list of survivors")
        check_context(survivors, survivors.context, expected=self._context)
        names, sharers = set(survivors.names), self._sharers()
        if not (len(names) == len(survivors.names) and self.name in names and names <= sharers):
            raise UpdateRefused(
                f"survivors {list(survivors.names)} must be among those who shared, {sorted(sharers)}, "
                f"each once, {self.name} with them"
            )
        check_quorum("survivors", names, self.terms)
        vow = Vow(context=self._context, site=self.name, signature=self._signer.sign(self._vowed(survivors)))
        self._set(survivors=survivors, vow=vow)
        return vow

    def unmask(self, vows: Vows) -> Revealed:
        """Step 4: reveal a share of the seed of each survivor, of the mask key of each who dropped out.

        Guarantees:
            Never both of one site, for there is one list of survivors, which a quorum signed.

        Raises:
            UpdateRefused: A vow is not its site's, over the same list; or they are fewer than a quorum.
            SiteRefused: It is not time.
        """
        state = self._state
        if state.revealed:
            return state.revealed
        if state.survivors is None:
            raise SiteRefused(f"{self.name} has signed no list of survivors: it reveals nothing")
        check_context(vows, vows.context, expected=self._context)
        statement, alive = self._vowed(state.survivors), set(state.survivors.names)
        for site, signature in vows.signatures.items():
            if not (site in alive and self._roster[site].signed(statement, signature)):
                raise UpdateRefused(f"{site} did not sign the list of survivors that {self.name} saw")
        check_quorum("vows", vows.signatures, self.terms)
        revealed = Revealed(
            context=self._context,
            site=self.name,
            seeds={site: share for site, share in (state.held_seeds or {}).items() if site in alive},
            mask_keys={
                site: share for site, share in (state.held_mask_keys or {}).items() if site not in alive
            },
        )
        self._set(revealed=revealed, held_seeds=None, held_mask_keys=None)
        return revealed

    def export(self) -> bytes:
        """Return the site's state, secrets included: for its own disk only."""
        return self._state.to_bytes()

    @classmethod
    def restore(
        cls, state: bytes, name: str, terms: SumTerms, *, signer: Signer, roster: Roster, noise: NoiseSource
    ) -> Self:
        """Return the site as it was when its state was exported.

        Raises:
            StateError: The state is damaged, another site's, or of another sum.
        """
        site = cls(name, terms, signer=signer, roster=roster, noise=noise)
        try:
            kept = _State.model_validate_json(state)
        except ValidationError as fault:
            raise StateError(f"{name}'s state of a secure sum is damaged; begin another attempt") from fault
        if not (kept.context == terms.digest() and kept.card.site == name):
            raise StateError(f"the state is {kept.card.site}'s of sum {kept.context[:12]}, not {name}'s")
        site._state = kept
        return site

    def _fresh(self) -> _State:
        mask_secret, share_secret, seed = masks.fresh_key(), masks.fresh_key(), masks.fresh_key()
        keys = (
            masks.public_key(mask_secret),
            masks.public_key(share_secret),
            masks.seed_digest(seed, context=self._context),
        )
        card = KeyCard(
            context=self._context,
            site=self.name,
            mask_key=keys[0],
            share_key=keys[1],
            seed_digest=keys[2],
            signature=self._signer.sign(card_body(self.name, self._context, keys)),
        )
        return _State(
            context=self._context, card=card, mask_secret=mask_secret, share_secret=share_secret, seed=seed
        )

    def _opened(self, inbox: Inbox) -> tuple[dict[str, KeyCard], Secrets, dict[str, SharePair]]:
        cards, secrets = self._cards(), self._secrets()
        check_context(inbox, inbox.context, expected=self._context)
        senders = set(inbox.boxes)
        if not (inbox.site == self.name and senders <= set(cards) - {self.name}):
            raise UpdateRefused(f"the inbox is {inbox.site}'s, from {sorted(senders)}: not {self.name}'s")
        check_quorum("sites that shared", senders | {self.name}, self.terms)
        held = opened(inbox.boxes, cards, share_key=secrets.share_key, me=self.name, terms=self.terms)
        return cards, secrets, held

    def _pair_mask(self, mask_key: bytes, peer: KeyCard) -> UInt64[ndarray, " coordinate"]:
        return masks.pair_mask(
            mask_key,
            peer.mask_key,
            me=self.name,
            peer=peer.site,
            context=self._context,
            length=self.terms.length,
        )

    def _cards(self) -> dict[str, KeyCard]:
        if self._state.cards is None:
            raise SiteRefused(f"{self.name} has not shared its secrets: it sends no masked sum")
        return {card.site: card for card in self._state.cards.cards}

    def _secrets(self) -> Secrets:
        state = self._state
        if state.mask_secret is None or state.share_secret is None or state.seed is None:
            raise SiteRefused(f"{self.name} has wiped its secrets of this sum")
        return Secrets(state.mask_secret, state.share_secret, state.seed)

    def _sharers(self) -> set[str]:
        return {self.name, *(self._state.inbox.boxes if self._state.inbox else ())}

    def _vowed(self, survivors: Survivors) -> bytes:
        cards = self._state.cards or CardList(context=self._context, cards=())
        return vow_body(cards, sharers=sorted(self._sharers()), survivors=list(survivors.names))

    def _again(self, answer: Answer, same: bool, what: str) -> Answer:
        if not same:
            raise SiteRefused(f"{self.name} answered another {what} of this sum; it answers one")
        return answer

    def _set(self, **changes: object) -> None:
        self._state = self._state.model_copy(update=changes)
