"""``willis site status``: one hospital at a glance; counts and sums, no pseudonym."""

from pathlib import Path

from willis.client.node.audit import AUDIT_FILE, AuditLog
from willis.client.node.enrolment import SETTINGS_FILE, agreed_studies
from willis.client.node.programs import states
from willis.client.node.spending import spending_of
from willis.client.opt_out import left_out, opted_out
from willis.client.site import read_site
from willis.client.store import open_store
from willis.shared.errors import StateError


def status_of(folder: Path) -> dict[str, object]:
    """Return a site's status by name, as JSON takes it.

    Raises:
        StateError: The folder is no site's, or its ledger or audit log is damaged.
    """
    settings = read_site(folder / SETTINGS_FILE)
    spending, lines = spending_of(settings), AuditLog(folder / AUDIT_FILE).read()
    programs = states(settings)
    names = opted_out(settings.optout)
    try:
        store = open_store(settings.store)
    except StateError:
        subjects = absent = 0  # nothing is cut yet
    else:
        absent = len(left_out(store, names))
        subjects = store.n_subjects - absent
    return {
        "site": settings.name,
        "hub": None if settings.hub is None else settings.hub.address,
        "running": programs is not None,
        "programs": programs or {},
        "studies": [{"name": study.name, "digest": study.digest()} for study in agreed_studies(settings)],
        "subjects": subjects,
        "opted_out": absent,
        "payments": len(spending.rows),
        "epsilon": 0.0 if spending.spent is None else spending.spent.epsilon,
        "epsilon_cap": spending.cap,
        "epsilon_left": spending.left,
        "delta": spending.delta,
        "audit_lines": len(lines),
        "audit_head": lines[-1]["hash"] if lines else "",
        "last": {name: value for name, value in lines[-1].items() if name not in ("previous", "hash")}
        if lines
        else None,
    }
