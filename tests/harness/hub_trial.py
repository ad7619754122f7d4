"""Rounds of a secure sum between real sites and a real hub, and the plain sum beside them."""

import math
from collections.abc import Callable, Mapping

import numpy as np
from cryptography.hazmat.primitives.asymmetric import ed25519
from harness.secure_trial import no_noise

from willis.client.secure_site import SecureSite
from willis.server.secure_hub import STEPS, SecureHub, SecureSum
from willis.shared.secure_sum.fixed_point import FixedPoint
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.secure_sum.terms import SumTerms, least_quorum

ALL = ("a", "b", "c", "d", "e", "f")
SIGNERS = {name: NodeKey(ed25519.Ed25519PrivateKey.generate()) for name in ALL}
ROSTER = {name: signer.identity for name, signer in SIGNERS.items()}


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
