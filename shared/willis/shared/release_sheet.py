"""What a release says of itself: study, run, and what every site has spent (``release.json``)."""

import math

from pydantic import Field

from willis.shared.errors import ReleaseError
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import Settings
from willis.shared.study import Name, Study
from willis.shared.update import Digest

FORMAT = 3
_NETWORKS = frozenset({"dp-wgan", "dp-merf"})  # recipes whose generator is a network


class SiteSpending(Settings):
    """What one site has paid for this release.

    Attributes:
        spent: All that its cohort paid, as of its last answer.
        ledger_head: Last hash of its ledger then; the site can show that its ledger passes through it.
    """

    spent: PrivacySpent
    ledger_head: str = Field(max_length=128)


class PublicStart(Settings):
    """What the weights were before any patient's data: they cost epsilon 0.

    Attributes:
        warm_start: Name of the weights trained on draws from the procedural prior, or ``none``.
        prior: Family of that prior.
        recipe: What learned from there on.
    """

    warm_start: str
    prior: str
    recipe: str
    epsilon: float = Field(default=0.0, ge=0, le=0)
    note: str = "made from a public procedure and public seeds; no patient's data was looked at"

    def sentence(self) -> str:
        """Return the start on one line."""
        known = [f"the procedural prior of the {self.prior} family"]
        if self.recipe in _NETWORKS:
            fresh = self.warm_start == "none"
            known.append("fresh weights" if fresh else f'the warm start "{self.warm_start}"')
        return f"Before the first round: {' and '.join(known)}, at epsilon {self.epsilon:g}: {self.note}."


class ReleaseSheet(Settings):
    """All that ``release.json`` says.

    Attributes:
        format: Version of the layout.
        study: The protocol, whole.
        study_digest: Its digest.
        rounds: Rounds merged.
        network: The bound for a patient seen at one site only.
        sites: What every site that took part has spent.
        start: Where the weights come from.
        versions: Of Python and the libraries that wrote the release.
    """

    format: int = Field(default=FORMAT, ge=FORMAT, le=FORMAT)
    study: Study
    study_digest: Digest
    run: Name
    rounds: int = Field(ge=1)
    network: PrivacySpent
    sites: dict[Name, SiteSpending] = Field(min_length=1)
    start: PublicStart
    versions: dict[str, str]


def check_sheet(sheet: ReleaseSheet) -> None:
    """Refuse a sheet that contradicts itself.

    Raises:
        ReleaseError: With every contradiction.
    """
    problems = []
    told, own = sheet.study_digest, sheet.study.digest()
    if told != own:
        problems.append(f"study_digest is {told[:12]}, the study's is {own[:12]}")
    known = {site.name for site in sheet.study.federation.sites}
    problems += [f"sites: the study knows no {name!r}" for name in sorted(set(sheet.sites) - known)]
    plan = sheet.study.privacy
    for name, site in (("network", sheet.network), *((n, s.spent) for n, s in sheet.sites.items())):
        if (site.unit, site.relation) != (plan.unit, plan.relation):
            problems.append(f"{name}: {site.sentence()}; the study is about unit {plan.unit.value}")
        if any(one > bound for one, bound in zip(_losses(site), _losses(sheet.network), strict=True)):
            problems.append(f"{name}: {site.sentence()}; more than the network's {sheet.network.sentence()}")
    if problems:
        raise ReleaseError("the release contradicts itself", problems)


def _losses(spent: PrivacySpent) -> tuple[float, float, float]:
    return spent.epsilon, spent.delta, math.inf if spent.patient_epsilon is None else spent.patient_epsilon
