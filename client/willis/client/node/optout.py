"""``willis site optout``: who is left out of every round that has not begun."""

import fcntl
from collections.abc import Sequence

from willis.client.ingest.table import read_table
from willis.client.opt_out import opted_out, write_opted_out
from willis.client.site import SiteSettings
from willis.shared.errors import CohortError
from willis.shared.whole_file import make_folder


def change(settings: SiteSettings, names: Sequence[str], *, undo: bool = False) -> tuple[str, ...]:
    """Add names to those who opted out, or take them off; return the list as it is then.

    Args:
        settings: The site's.
        names: Pseudonyms, as the cohort's table writes them.
        undo: Take them off.

    Raises:
        CohortError: A name is unknown, told by its place among the names; nothing was changed.
        StateError: The list cannot be read or written.
    """
    make_folder(settings.state, mode=0o700)
    with (settings.state / "optout.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two clerks at once: both are heard
        return _change(settings, names, undo=undo)


def _change(settings: SiteSettings, names: Sequence[str], *, undo: bool) -> tuple[str, ...]:
    listed = opted_out(settings.optout)
    known = set(listed) if undo else {row.subject for row in read_table(settings.cohort).rows}
    where = f"the list {settings.optout}" if undo else f"the table {settings.cohort}"
    unknown = [
        f'line {number}: "{name}" is not in {where}; write it as it stands there'
        for number, name in enumerate(names, start=1)
        if name not in known
    ]
    if unknown:
        raise CohortError(f"{len(unknown)} of {len(names)} names are unknown; nothing was changed", unknown)
    after = [name for name in listed if name not in names] if undo else [*listed, *names]
    write_opted_out(settings.optout, tuple(dict.fromkeys(after)))
    return opted_out(settings.optout)
