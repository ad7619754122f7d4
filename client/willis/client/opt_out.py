"""Who opted out: pseudonyms that no round that has yet to begin meets. The list never leaves the hospital."""

from collections.abc import Collection
from pathlib import Path

from willis.client.store import PatchStore, subject_mark
from willis.shared.errors import StateError
from willis.shared.whole_file import make_folder, write_whole


def opted_out(path: Path) -> tuple[str, ...]:
    """Return the pseudonyms of a list, one a line, in its order; empty where there is no list.

    Raises:
        StateError: It cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    except (OSError, UnicodeDecodeError) as fault:
        raise StateError(f"cannot read who opted out, {path}: {type(fault).__name__}; mend it") from fault
    return tuple(dict.fromkeys(line.strip() for line in lines if line.strip()))


def write_opted_out(path: Path, names: Collection[str]) -> None:
    """Write the list, for its owner alone.

    Raises:
        StateError: It cannot be written; the earlier one stands.
    """
    make_folder(path.parent, mode=0o700)
    write_whole(path, "".join(f"{name}\n" for name in names).encode(), private=True)


def without(store: PatchStore, names: Collection[str]) -> PatchStore:
    """Return a store without these subjects.

    Guarantees:
        No patch of theirs is ever handed out; a name that has none changes nothing. The index has another key
        wherever somebody is left out, so that a draw over the others is paid for on its own, and never meets
        the noise of an earlier one.

    Raises:
        StateError: The store does not tell whose its patches are: it cannot leave anybody out.
    """
    if not names:
        return store
    if not store.index.subjects:
        raise StateError(
            "the patches were cut by a Willis that could not leave subjects out: cut them again with "
            "`willis site agree`"
        )
    places = left_out(store, names)
    return store.leave_out(places) if places else store


def left_out(store: PatchStore, names: Collection[str]) -> frozenset[int]:
    """Return the places in a whole store of those among these names who have patches in it."""
    marks = {mark: place for place, mark in enumerate(store.index.subjects)}
    found = (marks.get(subject_mark(store.index.key, name)) for name in names)
    return frozenset(place for place in found if place is not None)
