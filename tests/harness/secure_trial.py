"""Four sites of one secure sum, and what a coordinator sends between them."""

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ed25519

from willis.client.secure_site import SecureSite
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.secure_sum.messages import CardList, Inbox, Survivors, Vows
from willis.shared.secure_sum.terms import SumTerms

NAMES = ("a", "b", "c", "d")
SIGNERS = {name: NodeKey(ed25519.Ed25519PrivateKey.generate()) for name in (*NAMES, "eve")}
ROSTER = {name: SIGNERS[name].identity for name in NAMES}
TERMS = SumTerms(
    run="run",
    round=1,
    order_digest="0" * 64,
    sites=NAMES,
    quorum=3,
    colluders=1,
    length=5,
    clip_norm=1.0,
    noise_multiplier=2.0,
)
UNLIKELY = 1e-6  # a right mask fails a test so often


def no_noise(n: int, scale: float) -> np.ndarray:
    return np.zeros(n, dtype=np.int64)


def site(name: str, terms: SumTerms = TERMS, noise=no_noise) -> SecureSite:
    return SecureSite(name, terms, signer=SIGNERS[name], roster=ROSTER, noise=noise)


def cards_of(sites: dict[str, SecureSite]) -> CardList:
    cards = tuple(each.advertise() for each in sites.values())
    return CardList(context=cards[0].context, cards=cards)


def inboxes_of(sites: dict[str, SecureSite], cards: CardList) -> dict[str, Inbox]:
    sealed = {name: each.share(cards) for name, each in sites.items()}
    return {
        name: Inbox(
            context=cards.context,
            site=name,
            boxes={sender: said.boxes[name] for sender, said in sealed.items() if sender != name},
        )
        for name in sites
    }


UNIT = np.array([0.5, -0.25, 0.0, 0.125, 0.0])


def survivors(*names: str, terms: SumTerms = TERMS) -> Survivors:
    return Survivors(context=terms.digest(), names=names)


def vows_of(sites: dict[str, SecureSite], shown: Survivors) -> Vows:
    return Vows(
        context=shown.context, signatures={name: sites[name].vow(shown).signature for name in shown.names}
    )
