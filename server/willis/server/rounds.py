"""The round loop on Flower's Grid: ask, wait, check, merge, save; the same over a network and in process.

A round: 1) whoever is on the roll gets the order, with a deadline; 2) every sound answer counts, a reply
being of the site whose message it answers; 3) below quorum the loop waits once (its patience) and asks the
silent again; the order is the same, so a site that was only late answers from memory and pays nothing;
4) still below quorum: nothing is merged and the run stops; 5) merge, average, save, then the next round.
"""

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from flwr.app import Array, ArrayRecord, ConfigRecord, Message, RecordDict
from flwr.serverapp import Grid

from willis.server import checkpoint as disk
from willis.server.admission import Reason, UnsoundUpdate, check_not_less, check_origin
from willis.server.checkpoint import Checkpoint, RoundRecord
from willis.server.ledger import SpendingBook
from willis.server.protocols import RoundProtocol, protocol_of
from willis.server.roll_call import RollCall, looks, push
from willis.shared.errors import QuorumMissed, UpdateRefused
from willis.shared.privacy import PrivacySpent
from willis.shared.study import Study
from willis.shared.update import REFUSAL_CODES, Arrays, RoundOrder, SiteAnswer, norm

logger = logging.getLogger(__name__)

_WORTH_ASKING_AGAIN = frozenset({"absent", "deadline", "lost", "internal", "unreachable"})


@dataclass
class _Ballot:
    """What came back in one round."""

    sound: dict[str, Arrays] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    spent: dict[str, PrivacySpent] = field(default_factory=dict)


def run_rounds(
    grid: Grid,
    study: Study,
    *,
    folder: Path,
    initial: Arrays,
    resume: bool = False,
    on_round: Callable[[RoundRecord], None] | None = None,
    patience_s: float = 30.0,
) -> Checkpoint:
    """Run a study's rounds, from its first or from where it stands.

    Args:
        grid: The network, or a grid in process.
        study: The protocol.
        folder: The run's folder; ``metrics.jsonl``, and ``server/`` for checkpoints and spending.
        initial: The model before the first round: its recipe's start.
        resume: Continue the run in the folder; the result is that of a run never interrupted.
        on_round: Called with every round's record, once it is on disk.
        patience_s: Seconds to wait, once a round, before the silent are asked again.

    Returns:
        Where the run stands after its last round.

    Raises:
        StateError: The folder is in use, has nothing to resume or is another study's; the disk is full.
        QuorumMissed: Too few sound answers; nothing was merged, the round before stands.
    """
    state = disk.begin(folder / "server", study, initial, resume=resume)
    disk.mend_metrics(folder / "metrics.jsonl", state.history)
    book = SpendingBook(folder / "server" / "spending.jsonl")
    roll = RollCall(grid, study)
    protocol = protocol_of(study)
    if state.round < study.training.rounds:
        roll.wait(study.federation.deadline_s)
    while state.round < study.training.rounds:
        record, ballot = _ask_all(
            grid, study, state, protocol=protocol, roll=roll, book=book, patience_s=patience_s
        )
        if record.merged:
            state = _advance(state, protocol, ballot, record)
            disk.save(folder / "server", state)
        disk.add_metrics(folder / "metrics.jsonl", record)
        if on_round is not None:
            on_round(record)
        if not record.merged:
            raise _missed(study, record)
    return state


def _ask_all(
    grid: Grid,
    study: Study,
    state: Checkpoint,
    *,
    protocol: RoundProtocol,
    roll: RollCall,
    book: SpendingBook,
    patience_s: float,
) -> tuple[RoundRecord, _Ballot]:
    started = time.monotonic()
    order = RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=state.study_digest,
        run=state.run,
        round=state.round + 1,
        arrays=protocol.order(state),
    )
    ballot = _Ballot(refused={site.name: "absent" for site in study.federation.sites})
    roll.look()
    _ask(grid, study, order, nodes=roll.nodes, protocol=protocol, ballot=ballot, book=book)
    again = {site for site, code in ballot.refused.items() if code in _WORTH_ASKING_AGAIN}
    if len(ballot.sound) < study.federation.quorum <= len(ballot.sound) + len(again):
        logger.warning("round %d: %d sound answers, waiting", order.round, len(ballot.sound))
        roll.wait(patience_s, even_if_full=True)
        nodes = {site: node for site, node in roll.nodes.items() if site in again}
        _ask(grid, study, order, nodes=nodes, protocol=protocol, ballot=ballot, book=book)
    record = RoundRecord(
        round=order.round,
        merged=len(ballot.sound) >= study.federation.quorum,
        answered=tuple(sorted(ballot.sound)),
        refused=dict(sorted(ballot.refused.items())),
        strangers=dict(Counter(roll.strangers.values())),
        norms={site: norm(ballot.sound[site]) for site in sorted(ballot.sound)},
        spent=dict(sorted(ballot.spent.items())),
        seconds=time.monotonic() - started,
    )
    return record, ballot


def _ask(
    grid: Grid,
    study: Study,
    order: RoundOrder,
    *,
    nodes: Mapping[str, int],
    protocol: RoundProtocol,
    ballot: _Ballot,
    book: SpendingBook,
) -> None:
    """Send the order, take in what comes until the deadline; the ballot gets all of it."""
    digest = order.digest()
    for site, reply in _replies(grid, order, nodes=nodes, deadline_s=study.federation.deadline_s):
        try:
            answer = reply if isinstance(reply, str) else _answer_in(reply)
            if isinstance(answer, str):
                ballot.refused[site] = answer
                continue
            check_origin(answer, site=site, number=order.round, order_digest=digest, budget=study.privacy)
            check_not_less(answer, before=book.latest().get(site))
            book.record(order.round, site, spent=answer.spent, ledger_head=answer.ledger_head)
            ballot.spent[site] = answer.spent
            protocol.check(answer.arrays, order=order.arrays, site=site)
        except UnsoundUpdate as fault:
            logger.warning("round %d, site %s: %s", order.round, site, fault)
            ballot.refused[site] = fault.recorded
        else:
            ballot.sound[site] = answer.arrays
            ballot.refused.pop(site, None)


def _replies(
    grid: Grid, order: RoundOrder, *, nodes: Mapping[str, int], deadline_s: float
) -> Iterator[tuple[str, Message | str]]:
    """Yield every site with its reply, or with the code of why there is none."""
    generator = ArrayRecord({name: Array(value) for name, value in order.arrays.items()})
    header = order.header()
    left: dict[str, str] = {}
    for site in sorted(nodes):
        content = RecordDict({"generator": generator, "order": ConfigRecord({"header": header})})
        message = Message(content, nodes[site], "train", ttl=deadline_s, group_id=str(order.round))
        keys = push(grid, message)
        left |= dict.fromkeys(keys, site)
        if not keys:
            yield site, "lost"
    for _ in looks(time.monotonic() + deadline_s):
        for reply in grid.pull_messages(list(left)) if left else ():
            site = left.pop(reply.metadata.reply_to_message_id, None)
            if site is None:
                logger.warning("round %d: a reply to no open order was left aside", order.round)
            else:
                yield site, reply
        if not left:
            return
    yield from ((site, "deadline") for site in left.values())


def _advance(
    state: Checkpoint, protocol: RoundProtocol, ballot: _Ballot, record: RoundRecord
) -> Checkpoint:
    model, released = protocol.advance(state, ballot.sound)
    return Checkpoint(
        study_digest=state.study_digest,
        run=state.run,
        round=record.round,
        model=model,
        released=released,
        history=(*state.history, record),
    )


def _missed(study: Study, record: RoundRecord) -> QuorumMissed:
    absent = ", ".join(f"{site} ({code})" for site, code in sorted(record.refused.items()))
    return QuorumMissed(
        f"round {record.round}: {len(record.answered)} sound answers, the quorum is "
        f"{study.federation.quorum}; missing: {absent}. Nothing was merged; resume when they are back"
    )


def _answer_in(reply: Message) -> SiteAnswer | str:
    """Return the answer in a reply, or the code it was refused with; the reply is not trusted."""
    if reply.has_error():
        return "lost"
    wall = reply.content.config_records.get("wall")
    if wall is not None:
        code = wall.get("refused")
        return code if isinstance(code, str) and code in REFUSAL_CODES else "unreadable"
    try:
        header = reply.content.config_records["answer"]["header"]
        arrays = {name: value.numpy() for name, value in reply.content.array_records["update"].items()}
        return SiteAnswer.read(header, arrays)  # pyright: ignore[reportArgumentType]
    except UpdateRefused as fault:
        raise UnsoundUpdate(Reason.UNREADABLE, str(fault)) from fault
    except Exception as fault:  # bytes from outside may break the reader in any way
        raise UnsoundUpdate(Reason.UNREADABLE, f"cannot be read ({type(fault).__name__})") from fault
