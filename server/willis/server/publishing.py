"""Close a run: what the coordinator holds becomes a release, with all that its sites have spent."""

from pathlib import Path

from willis.server.checkpoint import Checkpoint, load
from willis.server.ledger import SpendingBook
from willis.shared.errors import StateError
from willis.shared.privacy import PrivacySpent
from willis.shared.release import GeneratorRelease, read_release, write_release
from willis.shared.study import Study
from willis.shared.update import digest


def publish(run: Path, study: Study) -> GeneratorRelease:
    """Make ``release/`` in a run's folder, from its newest checkpoint and its spending book.

    1) load the checkpoint; 2) close the book: what it holds now is what the release says; 3) check that the
    book lacks nothing that the checkpoint knows of; 4) write what the last round left for
    a release.

    Edge cases:
        Publishing the same round twice returns the release that is there.
        What a site paid in a round that was never merged counts: its answer left the site.

    Args:
        run: The run's folder.
        study: As run.

    Raises:
        StateError: No round was merged, the book lacks a payment, the release that is there is of another
            round, or it cannot be written.
        ReleaseError: The weights do not fit the study's generator, or the release that is there is damaged.
    """
    state = load(run / "server", study_digest=study.digest())
    if state.round < 1:
        raise StateError(f"{run} has nothing to publish: no round was ever merged; resume the run")
    book = SpendingBook(run / "server" / "spending.jsonl")
    spent, network = book.latest(), book.network()
    _check_book(book, state, spent)
    if network is None:
        raise StateError(f"{book.path} holds no payment of any site; a release must say what was spent")
    folder = run / "release"
    if folder.exists() and any(folder.iterdir()):
        return _already(folder, state, network)
    return write_release(
        folder,
        study=study,
        arrays=state.released,
        run=state.run,
        rounds=state.round,
        network=network,
        spent=spent,
        ledger_heads=book.heads(),
    )


def _check_book(book: SpendingBook, state: Checkpoint, spent: dict[str, PrivacySpent]) -> None:
    """Refuse a book that was lost or cut: its figures would be too small."""
    for record in state.history:
        for site in sorted({*record.answered, *record.spent}):
            told = record.spent[site].epsilon if site in record.spent else 0.0
            if site not in spent or spent[site].epsilon < told:
                raise StateError(
                    f"{book.path} lacks what {site} told in round {record.round}; restore it from a backup: "
                    "without it the release would say too small an epsilon"
                )


def _already(folder: Path, state: Checkpoint, network: PrivacySpent) -> GeneratorRelease:
    there = read_release(folder)
    same = (there.sheet.run, there.sheet.rounds, there.spent) == (state.run, state.round, network)
    if not (same and digest(there.arrays) == digest(state.released)):
        raise StateError(
            f"{folder} is of run {there.sheet.run}, round {there.sheet.rounds}; to be published is "
            f"{state.run}, round {state.round}; move it away first"
        )
    return there
