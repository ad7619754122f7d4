"""Scores as lines of text, for whoever reads a terminal."""

from willis.shared.metrics.sheet import Evaluation

TITLE = "U-net trained on ..., tested on held-out subjects (not covered by epsilon)"


def score_lines(found: Evaluation) -> list[str]:
    """Return a title, one line for each row, and one for each difference between two rows.

    A difference whose interval holds 0 shows no gain, one whose interval lies below 0 a loss: its line says
    so.
    """
    lines = [
        TITLE,
        f"  {'':<12}{'Dice':>6}   {'95 % interval':<16}{'HD95':>9}   {'clDice':>8}{'subjects':>10}",
    ]
    for row in found.rows:
        low, high = row.dice_interval
        lines.append(
            f"  {row.name:<12}{row.dice:>6.3f}   {f'{low:.3f} to {high:.3f}':<16}{row.hd95:>9.2f}"
            f" {'mm' if row.hd95_unit == 'mm' else 'px'}{row.cldice:>8.3f}{row.n_subjects:>10}"
        )
    for pair in found.differences:
        low, high = pair.interval
        verdict = "" if low > 0 else ": a loss" if high < 0 else ": no gain shown"
        lines.append(
            f"  {pair.first} minus {pair.second}: {pair.dice:+.3f} ({low:+.3f} to {high:+.3f}){verdict}"
        )
    return lines
