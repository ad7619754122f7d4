"""What a person reads when a simulation ends."""

from typing import Any

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
        rows = outcome.scores.rows
        unit = "mm" if all(row.spacing_known for row in rows) else "px"
        lines += ["", "U-net trained on ..., tested on real subjects (not covered by epsilon)"]
        lines += [f"  {'':<12}{'Dice':>6}   {'95 % interval':<16}{'HD95 ' + unit:>9}{'clDice':>8}{'subjects':>10}"]
        for row in rows:
            low, high = row.dice_interval
            lines.append(
                f"  {row.name:<12}{row.dice:>6.3f}   {f'{low:.3f} to {high:.3f}':<16}{row.hd95_mm:>9.2f}"
                f"{row.cldice:>8.3f}{row.n_subjects:>10}"
            )
    lines += ["", f"Report: {outcome.folder / 'report.html'}", f"Release: {outcome.folder / 'release'}"]
    return "\n".join(lines)
