"""A round under secure aggregation over Flower's Grid: five steps, of which only the sites' sum comes out.

Each step has the round's deadline. A site that drops out before its masked sum came is left out; one that
drops out later is in the sum, and the others' shares take its masks away. Below quorum nothing is opened.

A sum that was opened is on the coordinator's disk before anything is learned from it: asked for anew after a
crash, the sites would have to pay for another.
"""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np
from flwr.serverapp import Grid

from willis.server.admission import Reason, UnsoundUpdate
from willis.server.ballot import Ballot
from willis.server.ledger import SpendingBook
from willis.server.letters import packed_step, step_answer_in
from willis.server.protocols import Pooled, expected_units
from willis.server.roll_call import exchange
from willis.server.secure_hub import SecureHub
from willis.shared.errors import QuorumMissed, StateError, UpdateRefused
from willis.shared.recipes.contract import PooledMean
from willis.shared.secure_sum.agreement import terms_of
from willis.shared.secure_sum.identity import NodeIdentity, Roster
from willis.shared.secure_sum.request import CARD, MASKED, REVEALED, SHARES, VOW, StepRequest
from willis.shared.study import Study
from willis.shared.update import RoundOrder
from willis.shared.whole_file import write_whole

logger = logging.getLogger(__name__)


class SecureAsking:
    """Asks for secure sums.

    Args:
        grid: The network, or a grid in process.
        study: The protocol.
        folder: The coordinator's folder of the run: ``peers.json`` names the sites' public keys,
            ``attempts.json`` counts attempts, ``sum.json`` holds the last sum that was opened.
        book: For what the sites pay.

    Raises:
        StateError: ``peers.json`` is missing or does not fit.
    """

    def __init__(self, grid: Grid, study: Study, *, folder: Path, book: SpendingBook) -> None:
        self._grid, self._study, self._book = grid, study, book
        self._attempts, self._opened = folder / "attempts.json", folder / "sum.json"
        self._roster = read_peers(folder / "peers.json", study)

    def ask(self, order: RoundOrder, *, nodes: Mapping[str, int], protocol: Pooled, ballot: Ballot) -> None:
        """Take a round's five steps; the ballot gets the sum, or nothing but refusals.

        Raises:
            StateError: A file of the folder is damaged, or cannot be written.
        """
        if self._known(order, ballot):
            return
        attempt = self._next_attempt(order)
        terms = terms_of(self._study, order, attempt=attempt, length=protocol.length)
        hub = SecureHub(terms, self._roster)
        there = dict(nodes)

        def step(number: int, payloads: Mapping[str, bytes]) -> None:
            self._step(hub, number, payloads, order=order, attempt=attempt, nodes=there, ballot=ballot)

        try:
            step(CARD, dict.fromkeys(there, b""))
            cards = hub.cards()
            step(SHARES, {card.site: cards.to_bytes() for card in cards.cards})
            step(MASKED, {site: inbox.to_bytes() for site, inbox in hub.inboxes().items()})
            survivors = hub.survivors()
            step(VOW, dict.fromkeys(survivors.names, survivors.to_bytes()))
            vows = hub.vows()
            step(REVEALED, dict.fromkeys(vows.signatures, vows.to_bytes()))
            total = hub.total()
        except (QuorumMissed, UpdateRefused) as fault:
            logger.warning("round %d, attempt %d: %s", order.round, attempt, fault)
            for site in nodes:
                ballot.refused.setdefault(site, "lost")
            return
        units = sum(expected_units(self._study, site) for site in total.survivors)
        mean = (total.total / units).astype("float32")
        self._keep(order, total.survivors, PooledMean(mean=mean, std=total.noise_std / units, units=units))
        self._known(order, ballot)

    def _step(
        self,
        hub: SecureHub,
        number: int,
        payloads: Mapping[str, bytes],
        *,
        order: RoundOrder,
        attempt: int,
        nodes: Mapping[str, int],
        ballot: Ballot,
    ) -> None:
        request = StepRequest(run=order.run, round=order.round, attempt=attempt, step=number)
        letters = {
            site: packed_step(request, payload, order) for site, payload in payloads.items() if site in nodes
        }
        for site, reply in exchange(
            self._grid,
            letters,
            nodes=nodes,
            kind="train.secure",
            number=order.round,
            deadline_s=self._study.federation.deadline_s,
        ):
            try:
                answer = reply if isinstance(reply, str) else step_answer_in(reply)
                if isinstance(answer, str):
                    ballot.refused[site] = answer
                    continue
                payload, paid = answer
                if number == MASKED:
                    if paid is None:
                        raise UnsoundUpdate(Reason.SPENT, "a masked sum came without what the site has paid")
                    ballot.enter_spending(paid, site=site, order=order, study=self._study, book=self._book)
                hub.take(site, payload)
                ballot.refused.pop(site, None)
            except UnsoundUpdate as fault:
                logger.warning("round %d, site %s: %s", order.round, site, fault)
                ballot.refused[site] = fault.recorded
            except UpdateRefused as fault:
                logger.warning("round %d, site %s: %s", order.round, site, fault)
                ballot.refused[site] = fault.code

    def _next_attempt(self, order: RoundOrder) -> int:
        """Count attempts on disk, before anything is asked: no site answers two sums under one number."""
        last = _read(self._attempts, keys={"round", "attempt"}) or {"round": 0, "attempt": 0}
        attempt = last["attempt"] + 1 if last["round"] == order.round else 1
        write_whole(self._attempts, json.dumps({"round": order.round, "attempt": attempt}).encode())
        return attempt

    def _keep(self, order: RoundOrder, survivors: Sequence[str], total: PooledMean) -> None:
        kept = {
            "order": order.digest(),
            "survivors": list(survivors),
            "mean": b64encode(total.mean.astype("<f4").tobytes()).decode(),
            "std": total.std,
            "units": total.units,
        }
        write_whole(self._opened, json.dumps(kept).encode())

    def _known(self, order: RoundOrder, ballot: Ballot) -> bool:
        """Enter the sum that this very order was answered with, where it was opened."""
        kept = _read(self._opened, keys={"order", "survivors", "mean", "std", "units"})
        if kept is None or kept["order"] != order.digest():
            return False
        mean = np.frombuffer(b64decode(kept["mean"]), dtype="<f4").astype(np.float32)
        ballot.total = PooledMean(mean=mean, std=kept["std"], units=kept["units"])
        for site in kept["survivors"]:
            ballot.sound[site] = {}
            ballot.refused.pop(site, None)
        return True


def _read(path: Path, *, keys: Set[str]) -> dict[str, Any] | None:
    """Return a JSON object with these keys, None where there is no file."""
    if not path.exists():
        return None
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        found = None
    if not (isinstance(found, dict) and set(found) == keys):
        raise StateError(f"{path} is damaged: restore it from a backup, or begin a new run")
    return found


def read_peers(path: Path, study: Study) -> Roster:
    """Read the sites' public keys: a JSON object from name to key (PEM or OpenSSH).

    Raises:
        StateError: The file cannot be read, or lacks a site.
        StudyError: A key is not sound.
    """
    try:
        keys = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as fault:
        raise StateError(
            f"secure aggregation needs {path}, from every site's name to its public key: "
            f"{type(fault).__name__}"
        ) from fault
    if not isinstance(keys, dict):
        raise StateError(f"{path} must be a JSON object from name to public key, got {type(keys).__name__}")
    missing = sorted({site.name for site in study.federation.sites} - set(keys))
    if missing:
        raise StateError(f"{path} lacks the public key of {', '.join(missing)}")
    return {name: NodeIdentity.read(str(text).encode()) for name, text in keys.items()}
