"""From a study to the noise of its private sums: the least that the whole study's budget allows."""

from willis.shared.accounting import MechanismRun, noise_multiplier
from willis.shared.errors import StudyError
from willis.shared.study import Study


def mechanism_of(study: Study, *, steps: int) -> MechanismRun:
    """Return what ``steps`` private sums of a study cost.

    Raises:
        StudyError: The noise would lie outside of what the accountant takes.
    """
    plan = study.privacy
    try:
        multiplier = noise_multiplier(
            epsilon=plan.epsilon,
            delta=plan.delta,
            sampling_rate=plan.sampling_rate,
            steps=study.training.draws,
        )
    except ValueError as fault:
        raise StudyError(f"no noise fits the study's budget: {fault}") from fault
    return MechanismRun(sampling_rate=plan.sampling_rate, noise_multiplier=multiplier, steps=steps)
