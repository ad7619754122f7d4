"""A site's two secrets in its peers' keeping: split among all, one share in a box for each.

The secrets are the key of its pairwise masks and the seed of its own mask. Of one site a peer reveals a share
of the one or of the other, never both: both together would open what the site sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from willis.shared.secure_sum.masks import seal, unseal
from willis.shared.secure_sum.messages import KeyCard
from willis.shared.secure_sum.shares import split
from willis.shared.secure_sum.terms import SumTerms

SharePair = tuple[bytes, bytes]  # of a mask key, and of a seed


@dataclass(frozen=True, repr=False)
class Secrets:
    """What a site draws for one sum.

    Attributes:
        mask_key: X25519 private key of the pairwise masks.
        share_key: X25519 private key of the boxes.
        seed: Of the site's own mask.
    """

    mask_key: bytes
    share_key: bytes
    seed: bytes


def entrust(
    secrets: Secrets, cards: Mapping[str, KeyCard], *, me: str, terms: SumTerms
) -> tuple[SharePair, dict[str, bytes]]:
    """Split the secrets; return the share that ``me`` keeps and the boxes by peer.

    Shares are numbered over all sites of the terms, whoever's card came.

    Raises:
        UpdateRefused: A peer's key is not sound.
    """
    n = len(terms.sites)
    mask_keys = split(secrets.mask_key, quorum=terms.quorum, n=n)
    seeds = split(secrets.seed, quorum=terms.quorum, n=n)
    pairs = {site: (mask_keys[terms.number(site)], seeds[terms.number(site)]) for site in cards}
    boxes = {
        peer: seal(
            pairs[peer],
            private=secrets.share_key,
            public=cards[peer].share_key,
            sender=me,
            receiver=peer,
            context=terms.digest(),
        )
        for peer in sorted(set(cards) - {me})
    }
    return pairs[me], boxes


def opened(
    boxes: Mapping[str, bytes],
    cards: Mapping[str, KeyCard],
    *,
    share_key: bytes,
    me: str,
    terms: SumTerms,
) -> dict[str, SharePair]:
    """Return the shares that peers entrusted to ``me``, by peer.

    Raises:
        UpdateRefused: A box does not open.
    """
    return {
        sender: unseal(
            box,
            private=share_key,
            public=cards[sender].share_key,
            sender=sender,
            receiver=me,
            context=terms.digest(),
        )
        for sender, box in boxes.items()
    }
