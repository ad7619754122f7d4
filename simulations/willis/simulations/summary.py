"""What a person reads when a simulation ends."""

from typing import Any

from willis.shared.metrics.table import score_lines
from willis.simulations.run import Outcome


def as_values(outcome: Outcome) -> dict[str, Any]:
    """Return the outcome as plain values."""
    return {
        "folder": str(outcome.folder),
        "release": outcome.release.digest,
        "privacy": outcome.release.spent.model_dump(mode="json"),
        "sites": {name: site.spent.model_dump(mode="json") for name, site in outcome.release.sites.items()},
        "scores": None if outcome.scores is None else outcome.scores.model_dump(mode="json"),
    }


def as_table(outcome: Outcome) -> str:
    """Return the outcome as lines of text: privacy by site, the table of scores, where things are."""
    lines = ["", "Privacy"]
    lines += [f"  {name}: {site.spent.sentence()}" for name, site in sorted(outcome.release.sites.items())]
    if outcome.scores is not None:
        lines += ["", *score_lines(outcome.scores)]
    lines += ["", f"Report: {outcome.folder / 'report.html'}", f"Release: {outcome.folder / 'release'}"]
    return "\n".join(lines)
