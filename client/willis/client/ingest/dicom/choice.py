"""Which of a study's series is its image, and for every one of them a word why it was taken or left."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from willis.client.ingest.dicom.rule import SeriesRule
from willis.client.ingest.dicom.stacks import MULTI_FRAME, Refusal, Stack

_DESCRIPTION, _WITHOUT = 1, 2  # bits of Stack.matches, in the order of SeriesRule.patterns


@dataclass(frozen=True)
class Verdict:
    """What became of one series.

    Attributes:
        name: ``SUBJECT/study-K/series-N``.
        taken: Whether it is in the cohort.
        code: ``taken``, or why it was left or refused.
        sentence: The same for a person, with values and what to do.
        refused: Whether it was refused, rather than not wanted.
    """

    name: str
    taken: bool
    code: str
    sentence: str
    refused: bool = False


def choose(found: Iterable[Stack | Refusal], rule: SeriesRule) -> tuple[list[Stack], list[Verdict]]:
    """Choose the image of one study.

    Args:
        found: All series of the study.
        rule: The site's.

    Returns:
        One stack, or none; and a verdict for every series that is not it.
    """
    fitting, verdicts = [], []
    for one in found:
        if isinstance(one, Refusal):
            verdicts.append(Verdict(one.name, False, one.code, one.sentence, refused=True))
            continue
        misfit = _misfit(one, rule)
        if misfit is None:
            fitting.append(one)
        else:
            verdicts.append(Verdict(one.name, False, *misfit))
    taken = _one_of(fitting, rule)
    for stack in fitting:
        if stack not in taken:
            verdicts.append(_second(stack, taken, fitting, rule))
    return taken, verdicts


def _misfit(stack: Stack, rule: SeriesRule) -> tuple[str, str] | None:
    """Return why a series is not wanted; None where it is."""
    if stack.modality != rule.modality:
        return "modality", f"its modality is {stack.modality or 'none'}, the rule wants {rule.modality}"
    if rule.description is not None and not stack.matches & _DESCRIPTION:
        return "description", f"no text of it fits description = {rule.description!r}"
    if rule.without is not None and stack.matches & _WITHOUT:
        return "without", f"a text of it fits without = {rule.without!r}"
    if rule.sequence and not set(rule.sequence) & set(stack.sequence):
        told = ", ".join(stack.sequence) or "none"
        return "sequence", f"its ScanningSequence is {told}, the rule wants one of {', '.join(rule.sequence)}"
    columns, rows, between = stack.spacing_mm
    return (
        outside("in_plane_mm", (columns, rows), rule.in_plane_mm)
        or (None if stack.kind in MULTI_FRAME else outside("between_mm", (between,), rule.between_mm))
        or outside("slices", (stack.shape[2],), rule.slices)
    )


def outside(key: str, values: tuple[float, ...], span: tuple[float, float] | None) -> tuple[str, str] | None:
    """Return code and sentence where a value is outside a key's span; None where all are within."""
    if span is None or all(span[0] <= value <= span[1] for value in values):
        return None
    told = " x ".join(f"{value:.4g}" for value in values)
    return key, f"{told} is outside {key} = [{span[0]:g}, {span[1]:g}]"


def _one_of(fitting: Sequence[Stack], rule: SeriesRule) -> list[Stack]:
    if len(fitting) < 2 or rule.several == "refuse":
        return list(fitting) if len(fitting) == 1 else []
    if rule.several == "last":
        last = max(stack.instances[0].series_number for stack in fitting)
        latest = [stack for stack in fitting if stack.instances[0].series_number == last]
        return latest if len(latest) == 1 else []
    most = max(stack.shape[2] for stack in fitting)
    first = [stack for stack in fitting if stack.shape[2] == most]
    return first if len(first) == 1 else []


def _second(stack: Stack, taken: Sequence[Stack], fitting: Sequence[Stack], rule: SeriesRule) -> Verdict:
    if taken:
        return Verdict(
            stack.name, False, "several", f"{taken[0].name} fits too and is taken: several = {rule.several!r}"
        )
    others = ", ".join(one.name for one in fitting if one is not stack)
    return Verdict(
        stack.name,
        False,
        "several",
        f"{others} of the same study fit too; narrow [intake.image], or set several",
        refused=True,
    )
