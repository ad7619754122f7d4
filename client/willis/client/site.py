"""A hospital's own settings and limits: ``site.toml``. Nothing of it leaves the hospital but the name."""

import stat
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, field_validator

from willis.client.ingest.dicom.rule import IntakeRule
from willis.client.pacs.settings import PacsSettings
from willis.shared.errors import OutsideHours, SiteRefused, StateError
from willis.shared.privacy import PrivacyUnit
from willis.shared.secure_sum.identity import NodeIdentity, NodeKey, Roster
from willis.shared.settings import Settings, read_toml
from willis.shared.study import Name, Study

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
_CLOCK = r"([01]\d|2[0-3]):[0-5]\d"
Hours = Annotated[str, StringConstraints(pattern=rf"^{_CLOCK}-{_CLOCK}$")]


class HubLink(Settings):
    """The one place that a site's node connects to.

    Attributes:
        address: ``host:port``; the site connects outward, nothing connects to it.
        ca: Certificate of the authority that vouches for the hub.
    """

    address: str = Field(pattern=r"^(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):[1-9][0-9]{0,4}$")
    ca: Path = Path("ca.crt")

    @property
    def host(self) -> str:
        """The hub's name or address."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The hub's port."""
        return int(self.address.rpartition(":")[2])


class SiteSettings(Settings):
    """One hospital's settings; a study that asks for more than these allow is refused.

    Attributes:
        name: The site's name in the study.
        cohort: The table that names subjects, images and labels.
        state: The site's folder: patches, ledger, and its memory of every run. Keep it on a local disk.
        cohort_key: Name of the cohort that the ledger belongs to; cohorts that share patients share key and
            ledger.
        ledger_file: The cohort's ledger; None is ``ledger.sqlite`` in ``state``. Cohorts that share patients
            name one file, or what they spend is not added up.
        unit: Whom the cap protects; a study that counts by another unit is refused.
        epsilon_cap: The most that this ledger ever pays, over all studies and runs.
        delta: The largest delta that the site accepts.
        minimum_subjects: With fewer the site refuses to train.
        max_update_norm: The largest L2 bound of an update that the site accepts.
        studies: Digests of the studies that the site agreed to; None accepts any within the limits above.
        shared_noise: Whether the site takes part in secure aggregation, where it adds only a share of the
            noise and relies on other sites for the rest.
        least_colluders: The least ``federation.secure.colluders`` that the site accepts; 1 allows for one
            site that uses or tells its own share of the noise.
        key: File of the private key that signs for the site in secure aggregation (PEM); readable by its
            owner alone.
        peers: Public key (PEM or OpenSSH) of every site of such a study, this one included, by name. Get
            them from the hospitals, not from the coordinator: whoever hands them out can read every sum.
        threads: CPU threads for training; None takes what torch takes.
        hub: Where the site's node connects to; a simulation has none.
        bundles: SHA-256 of the app bundles that may run here; None is the installed Willis' own alone.
        protocols: Values of ``training.protocol`` that the site takes part in.
        hours: Local times, such as ``20:00-06:00``, in which the site begins a round; None is always.
        pacs: Where the site receives and fetches DICOM instances; None is nowhere.
        intake: Which series of an export are taken in, and where their labels are.
    """

    name: Name
    cohort: Path
    state: Path
    cohort_key: Name = "cohort"
    ledger_file: Path | None = None
    unit: PrivacyUnit = PrivacyUnit.SUBJECT
    epsilon_cap: float = Field(gt=0)
    delta: float = Field(gt=0, lt=1)
    minimum_subjects: int = Field(default=1, ge=1)
    max_update_norm: float = Field(default=100.0, gt=0)
    studies: tuple[str, ...] | None = None
    shared_noise: bool = False
    least_colluders: int = Field(default=1, ge=0)
    key: Path | None = None
    peers: dict[Name, str] = Field(default_factory=dict)
    threads: int | None = Field(default=None, ge=1, le=1024)
    hub: HubLink | None = None
    bundles: tuple[Digest, ...] | None = None
    protocols: tuple[Literal["local", "pooled"], ...] = ("local", "pooled")
    hours: tuple[Hours, ...] | None = None
    pacs: PacsSettings | None = None
    intake: IntakeRule | None = None

    @field_validator("hours")
    @classmethod
    def _hours_have_a_length(cls, hours: tuple[str, ...] | None) -> tuple[str, ...] | None:
        for span in hours or ():
            if len(set(span.split("-"))) == 1:
                raise ValueError("must not end when they begin; leave hours out for always")
        return hours

    @property
    def store(self) -> Path:
        """Folder of the site's patches."""
        return self.state / "patches"

    @property
    def ledger(self) -> Path:
        """The site's ledger."""
        return self.ledger_file or self.state / "ledger.sqlite"

    @property
    def optout(self) -> Path:
        """The pseudonyms that no draw may meet, one a line; kept by ``willis site optout``."""
        return self.state / "optout.txt"

    def signer(self) -> NodeKey:
        """Return the key that signs for the site.

        Raises:
            StateError: There is none, others than its owner may open it, or it cannot be read.
        """
        if self.key is None:
            raise StateError("the site has no key to sign with: set key in site.toml")
        try:
            open_to = stat.S_IMODE(self.key.stat().st_mode) & 0o077
            pem = self.key.read_bytes()
        except OSError as fault:
            raise StateError(f"cannot read the site's key {self.key}: {fault.strerror}") from fault
        if open_to:
            raise StateError(f"others than its owner may open the site's key {self.key}: chmod 600 it")
        return NodeKey.read(pem)

    def roster(self) -> Roster:
        """Return the public keys by which the site knows its peers.

        Raises:
            StudyError: One of them is no public key.
        """
        return {name: NodeIdentity.read(text.encode()) for name, text in self.peers.items()}

    def check_study(self, study: Study) -> None:
        """Refuse a study that asks for more than the site allows.

        Raises:
            SiteRefused: It names another site, was not agreed to, or its budget or bounds are too loose.
        """
        known = [site.name for site in study.federation.sites]
        if self.name not in known:
            raise SiteRefused(f'the study names no site "{self.name}"; it knows {", ".join(known)}')
        if self.studies is not None and study.digest() not in self.studies:
            raise SiteRefused(f"study {study.digest()[:12]} is not among those that the site agreed to")
        if study.privacy.unit is not self.unit:
            raise SiteRefused(
                f"the study's unit is {study.privacy.unit.value}, the site's is {self.unit.value}"
            )
        if study.federation.secure is not None and not self.shared_noise:
            raise SiteRefused(
                "the study shares the noise among sites (federation.secure), the site's shared_noise is off"
            )
        if study.training.protocol not in self.protocols:
            raise SiteRefused(
                f"the study's training.protocol is {study.training.protocol}, "
                f"the site takes part in {', '.join(self.protocols) or 'none'}"
            )
        secure = study.federation.secure
        if secure is not None and secure.colluders < self.least_colluders:
            raise SiteRefused(
                f"the study's secure.colluders is {secure.colluders}, "
                f"the site asks for {self.least_colluders}"
            )
        for what, asked, allowed in (
            ("privacy.epsilon", study.privacy.epsilon, self.epsilon_cap),
            ("privacy.delta", study.privacy.delta, self.delta),
            ("federation.update_norm", study.federation.update_norm, self.max_update_norm),
        ):
            if not asked <= allowed * (1 + 1e-9):
                raise SiteRefused(f"the study's {what} is {asked:g}, the site allows at most {allowed:g}")

    def check_hours(self, now: datetime) -> None:
        """Refuse to begin a round at this local time.

        Raises:
            OutsideHours: The site has hours, and this is none of them.
        """
        if self.hours is not None and not any(_within(span, now.time()) for span in self.hours):
            raise OutsideHours(f"it is {now:%H:%M}, the site begins rounds at {', '.join(self.hours)} only")


def _within(span: str, now: time) -> bool:
    start, end = (time.fromisoformat(part) for part in span.split("-"))
    return start <= now < end if start < end else now >= start or now < end


def read_site(path: Path) -> SiteSettings:
    """Read a ``site.toml``; relative paths in it start at its folder.

    Raises:
        StateError: With every fault and the path of its key.
    """
    settings = read_toml(path, SiteSettings, error=StateError)
    base = path.resolve().parent
    paths = {
        "cohort": base / settings.cohort,
        "state": base / settings.state,
        "ledger_file": None if settings.ledger_file is None else base / settings.ledger_file,
        "key": None if settings.key is None else base / settings.key,
        "hub": settings.hub and settings.hub.model_copy(update={"ca": base / settings.hub.ca}),
        "pacs": settings.pacs and settings.pacs.under(base),
        "intake": settings.intake and settings.intake.under(base),
    }
    return settings.model_copy(update=paths)
