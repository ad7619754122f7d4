"""``willis site check``: what must be right before a site runs; nothing leaves, nothing is paid."""

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import torch

from willis.client.ingest.check import Intake, check_cohort
from willis.client.node.audit import AUDIT_FILE, AuditLog
from willis.client.node.enrolment import SETTINGS_FILE, agreed_studies
from willis.client.node.header_text import files_with_text
from willis.client.node.keys import KEY_FILE, SECRET_FILE, check_private
from willis.client.node.reach import check_reach
from willis.client.node.spending import spending_of
from willis.client.node.verdict import Check
from willis.client.opt_out import opted_out, without
from willis.client.private_sum import private_sum
from willis.client.randomness import SecretRandom
from willis.client.site import SiteSettings, read_site
from willis.client.store import open_store
from willis.shared.errors import InputError, Unreachable, WillisError
from willis.shared.mechanism import mechanism_of
from willis.shared.networks.build import choose_device
from willis.shared.processes import flower_environment

_LEAST_FREE, _ENOUGH_FREE = 100e6, 2e9  # bytes
_COORDINATES = 100_000  # of the dry step
_OFF = ("FLWR_TELEMETRY_ENABLED", "RAY_USAGE_STATS_ENABLED")
Verdict = tuple[Literal["ok", "warning"], str]


def check_site(folder: Path) -> Iterator[Check]:
    """Yield one check after another; none raises.

    Where ``site.toml`` cannot be read there is nothing to check it against, and that fault is the only one.
    """
    settings: list[SiteSettings] = []

    def configured() -> Verdict:
        settings.append(read_site(folder / SETTINGS_FILE))
        return "ok", f"{SETTINGS_FILE} fits"

    yield _checked("configuration", configured)
    if not settings:
        return
    site = settings[0]
    local: dict[str, Callable[[], Verdict]] = {
        "keys": lambda: _keys(folder),
        "studies": lambda: _studies(site),
        "subjects": lambda: _subjects(site),
        "device": lambda: _device(site),
        "dry step": lambda: _dry_step(site),
        "disk": lambda: _disk(site),
        "ledger": lambda: _ledger(site),
        "audit": lambda: _audit(folder),
        "telemetry": lambda: _telemetry(folder),
    }
    yield from _data(site)
    for name, look in local.items():
        yield _checked(name, look)
    if site.hub is None:
        yield Check("hub", "fault", f"{SETTINGS_FILE} has no [hub]; the site connects to nobody", 2)
    else:
        yield from check_reach(site.hub)


def _checked(name: str, look: Callable[[], Verdict]) -> Check:
    """Return what a look finds; what it raises is a fault with the error's exit code."""
    try:
        return Check(name, *look())
    except (WillisError, ValueError, OSError) as error:
        code = error.exit_code if isinstance(error, WillisError) else InputError.exit_code
        return Check(name, "fault", str(error), code)


def _keys(folder: Path) -> Verdict:
    for name in (KEY_FILE, SECRET_FILE):
        check_private(folder / name)
    return "ok", f"{KEY_FILE} and {SECRET_FILE} are for their owner alone"


def _data(site: SiteSettings) -> Iterator[Check]:
    intakes: list[Intake] = []

    def readable() -> Verdict:
        intake = check_cohort(site.cohort)
        intakes.append(intake)
        if not intake.accepted:
            raise InputError(f"none of {len(intake.rows)} rows of {site.cohort} can be used")
        said = f"{len(intake.accepted)} of {len(intake.rows)} rows can be used"
        if intake.refused:
            return "warning", f"{said}; `willis cohort check {site.cohort}` tells the others' faults"
        if os.access(site.cohort, os.W_OK) and os.getuid() != 0:
            return "warning", f"{said}; the site may write {site.cohort}: mount the export read-only"
        return "ok", said

    def identity() -> Verdict:
        if not intakes:
            return "warning", "the data cannot be read, so nothing can be said of identity in it"
        paths = {path for row in intakes[0].accepted for path in (row.image, row.label) if path is not None}
        with_text, nifti = files_with_text(sorted(paths))
        pixels = "names burned into pixels are not looked for"
        if with_text:
            return (
                "warning",
                f"{with_text} of {nifti} NIfTI headers hold free text: see that it names nobody; {pixels}",
            )
        return "ok", f"{nifti} NIfTI headers hold no free text, pictures' tags are not read; {pixels}"

    yield _checked("data", readable)
    yield _checked("identity", identity)


def _studies(site: SiteSettings) -> Verdict:
    studies = agreed_studies(site)
    for study in studies:
        site.model_copy(update={"studies": None}).check_study(study)
    if site.studies is None:
        return "warning", "any study within the limits is accepted: set studies to those that you agreed to"
    if not site.studies:
        return "warning", "no study is agreed to: `willis site agree`"
    return "ok", f"{len(site.studies)} studies are agreed to"


def _subjects(site: SiteSettings) -> Verdict:
    whole, names = open_store(site.store), opted_out(site.optout)
    store = without(whole, names)
    studies = agreed_studies(site)
    least = max([site.minimum_subjects, *(study.federation.minimum_subjects for study in studies)])
    said = f"{store.n_subjects} subjects, {whole.n_subjects - store.n_subjects} more opted out"
    if store.n_subjects < least:
        raise WillisError(f"{said}; at least {least} are needed")
    if studies and all(study.patch != store.spec for study in studies):
        raise InputError("the patches are cut for none of the agreed studies: `willis site agree` again")
    strangers = len(names) - (whole.n_subjects - store.n_subjects)
    if strangers:
        return "warning", f"{said}; {strangers} names in {site.optout} have no patches here"
    return "ok", said


def _device(site: SiteSettings) -> Verdict:
    wishes = {study.training.device for study in agreed_studies(site)} or {"auto"}
    found = sorted({str(choose_device(wish)) for wish in wishes})
    return "ok", f"training runs on {', '.join(found)}, torch {torch.__version__}"


def _dry_step(site: SiteSettings) -> Verdict:
    studies = agreed_studies(site)
    if not studies:
        return "warning", "no study is agreed to, so no step was tried"
    study, start = studies[-1], time.monotonic()
    made_up = ([torch.randn(_COORDINATES)] for _ in range(8))  # of no patient
    total = private_sum(
        made_up,
        like=[torch.zeros(_COORDINATES)],
        clip_norm=study.privacy.clip_norm,
        noise_multiplier=mechanism_of(study, steps=study.training.critic_steps).noise_multiplier,
        noise=SecretRandom.from_operating_system(),
    )
    if not bool(torch.isfinite(total[0]).all()):
        raise WillisError("a private sum of made-up numbers is not finite; this torch is broken")
    return "ok", f"a private sum of made-up numbers took {time.monotonic() - start:.2f} s; nothing was paid"


def _disk(site: SiteSettings) -> Verdict:
    state = os.statvfs(site.state if site.state.exists() else site.state.parent)
    free = state.f_bavail * state.f_frsize
    if free < _LEAST_FREE:
        raise InputError(f"{site.state} has {free / 1e6:.0f} MB free; free some disk")
    return ("ok" if free > _ENOUGH_FREE else "warning"), f"{free / 1e9:.1f} GB free for the site's state"


def _ledger(site: SiteSettings) -> Verdict:
    spending = spending_of(site)
    said = f"{len(spending.rows)} payments, epsilon {spending.left:.4g} of {spending.cap:g} is left"
    if not spending.left > 0:
        raise WillisError(f"{said}: no round can be paid for; agree on a new cap, or stop")
    return "ok", said


def _audit(folder: Path) -> Verdict:
    return "ok", f"{len(AuditLog(folder / AUDIT_FILE).read())} lines, the chain is whole"


def _telemetry(folder: Path) -> Verdict:
    environment = flower_environment(folder / "flwr")
    on = [name for name in _OFF if environment.get(name) != "0"]
    if on:
        raise Unreachable(f"{', '.join(on)} is not 0 for the site's programs")
    return "ok", "Flower's telemetry and update checks are off"
