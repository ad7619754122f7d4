"""The terms of a secure sum as a study has them, and what its figures assume."""

from willis.shared.errors import StudyError
from willis.shared.federation_plan import SecurePlan
from willis.shared.mechanism import mechanism_of
from willis.shared.secure_sum.terms import SumTerms
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.shared.update import RoundOrder

_ROOM = 2  # a site may have so many times the subjects that the largest site declares


def terms_of(study: Study, order: RoundOrder, *, attempt: int, length: int) -> SumTerms:
    """Return the terms of one attempt at a round; sites and coordinator build them alike.

    Args:
        study: As agreed; under secure aggregation.
        order: The round's order.
        attempt: From 1.
        length: Coordinates of the order's question.

    Raises:
        StudyError: The study has no secure aggregation, or its numbers do not fit it.
    """
    plan = _plan(study)
    declared = max(site.subjects for site in study.federation.sites)
    if study.privacy.unit.value == "patch":
        declared *= study.patch.per_subject
    fields = {
        "run": order.run,
        "round": order.round,
        "attempt": attempt,
        "order_digest": order.digest(),
        "sites": sorted(site.name for site in study.federation.sites),
        "quorum": study.federation.quorum,
        "colluders": plan.colluders,
        "length": length,
        "clip_norm": study.privacy.clip_norm,
        "noise_multiplier": mechanism_of(study, steps=1).noise_multiplier,
        "units": _ROOM * declared,
    }
    return parse(fields, SumTerms, where="the terms of the secure sum")


def assumption(study: Study) -> str:
    """Return what every figure of a study under secure aggregation assumes, in words.

    Raises:
        StudyError: The study has no secure aggregation.
    """
    plan, quorum = _plan(study), study.federation.quorum
    return (
        f"secure aggregation: of the {quorum} or more sites in every sum, at most {plan.colluders} tell the "
        "coordinator, or use themselves, their own share of the noise"
    )


def _plan(study: Study) -> SecurePlan:
    plan = study.federation.secure
    if plan is None:
        raise StudyError("the study has no federation.secure: its sums are not aggregated securely")
    return plan
