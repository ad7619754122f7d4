"""Who takes part in a study, when a round counts, and how sums are added up: ``[federation]``."""

from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    model_serializer,
    model_validator,
)

from willis.shared.settings import Settings, refuse

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class SitePlan(Settings):
    """One hospital's place in the study; all of it public.

    Attributes:
        name: The site's name.
        weight: Its share in a merge, before normalisation; agreed, not computed from its cohort.
        subjects: Subjects it declares. The private sum is divided by sampling_rate * subjects, never
            by the true count; a wrong figure scales its gradient and breaks no guarantee.
    """

    name: Name
    weight: float = Field(default=1.0, gt=0)
    subjects: int = Field(ge=1)


class SecurePlan(Settings):
    """Secure aggregation: the coordinator learns the sites' sum alone, and each adds a share of the noise.

    Attributes:
        colluders: Sites that may tell the coordinator their own share of the noise without harm: the shares
            of ``federation.quorum`` sites less these make up the whole noise.
    """

    colluders: int = Field(default=1, ge=0)


class FederationPlan(Settings):
    """Who takes part, and when a round counts.

    Attributes:
        sites: The hospitals.
        quorum: Sound updates needed before a merge.
        deadline_s: Seconds that a site has for a round.
        update_norm: L2 bound of the difference that a site sends.
        minimum_subjects: A site with fewer refuses to train.
        secure: Secure aggregation, under ``training.protocol`` pooled; absent: every site adds all its noise.
        precision: What a site's answer travels in, rounded after clipping and noise; the model that goes down
            to the sites is float32 always. ``float32`` leaves a study's digest what it was without this key.
    """

    sites: tuple[SitePlan, ...] = Field(min_length=1)
    quorum: int = Field(ge=1)
    deadline_s: float = Field(default=600, gt=0)
    update_norm: float = Field(default=100.0, gt=0)
    minimum_subjects: int = Field(default=1, ge=1)
    secure: SecurePlan | None = None
    precision: Literal["float32", "float16"] = "float32"

    @model_serializer(mode="wrap")
    def _default_precision_unsaid(self, values_of: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the default, so that studies from before this key keep the digest sites agreed to."""
        values = values_of(self)
        if self.precision == "float32":
            values.pop("precision", None)
        return values

    @model_validator(mode="after")
    def _sane(self) -> "FederationPlan":
        faults = []
        names = [site.name for site in self.sites]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            faults.append(f"every site needs its own name, got twice: {', '.join(twice)}")
        if self.quorum > len(names):
            faults.append(f"quorum must be at most the number of sites ({len(names)}), got {self.quorum}")
        if self.secure is not None and len(names) < 2:
            faults.append("secure aggregation hides a site among others: it needs 2 sites at least, got 1")
        elif self.secure is not None and not 2 * self.quorum > len(names) + self.secure.colluders:
            # Else a coordinator could have two lists of survivors signed (Bonawitz 2017, theorem 6.5).
            faults.append(
                f"under secure aggregation twice the quorum must exceed the {len(names)} sites and the "
                f"{self.secure.colluders} of secure.colluders together, got quorum {self.quorum}"
            )
        if self.secure is not None and self.precision != "float32":
            faults.append(
                'precision must be "float32" under secure aggregation, whose sums are whole 64-bit words, '
                f'got "{self.precision}": leave out precision, or leave out secure'
            )
        refuse(faults)
        return self

    def site(self, name: str) -> SitePlan:
        """Return a site's plan; ``KeyError`` where the study does not know it."""
        return {site.name: site for site in self.sites}[name]
