"""From cohorts to the folders of a simulation's hospitals.

Every site of the study gets ``sites/NAME/`` with what a real one would have: its table of subjects, its
``site.toml``, its patches. Held-out subjects are in no site's table; they are listed beside the run, in
``held_out.csv``, and nothing trains on them, or scores them before the release exists.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from willis.client.cohort import Cohort, read_cohort, split
from willis.client.site import SiteSettings, read_site
from willis.client.store import build_store, open_store
from willis.shared.errors import StudyError
from willis.shared.study import Study
from willis.shared.whole_file import write_whole
from willis.simulations.progress import Show
from willis.simulations.virtual_sites import make_cohort


@dataclass(frozen=True)
class Hospitals:
    """The sites of a simulation, ready to train.

    Attributes:
        folder: With NAME/site.toml for every site.
        training: Subjects that train, of all sites.
        held_out: Subjects that nothing but the evaluation sees.
    """

    folder: Path
    training: Cohort
    held_out: Cohort


@dataclass(frozen=True)
class Survey:
    """Who fills the sites of a study; nothing is written yet.

    Attributes:
        real: Real subjects, of some or all of the study's sites.
        virtual: Names of the other sites.
    """

    real: Cohort
    virtual: Sequence[str]


def survey(study: Study, *, cohort: Path | None, virtual: int) -> Survey:
    """Find who fills the sites of a study.

    Args:
        study: The protocol.
        cohort: Real subjects, of some or all of the study's sites.
        virtual: How many of the other sites are virtual.

    Raises:
        StudyError: A site of the study has neither real nor virtual subjects, or has both.
        CohortError: A cohort cannot be used.
    """
    real = read_cohort(cohort) if cohort is not None else Cohort(())
    return Survey(real, _virtual_sites(study, real, virtual))


def prepare(study: Study, run: Path, found: Survey, *, show: Show) -> Hospitals:
    """Bring every site of a study to where it can train.

    Args:
        study: The protocol.
        run: The run's folder.
        found: Who fills its sites.
        show: For progress.

    Raises:
        CohortError: A cohort cannot be cut into patches.
    """
    subjects = list(found.real.subjects)
    if found.virtual:
        with show.task(f"drawing patients of {len(found.virtual)} virtual sites") as advance:
            table = make_cohort(study, found.virtual, folder=run / "virtual", progress=advance)
        subjects += read_cohort(table).subjects
    training, held_out = split(Cohort(tuple(subjects)), study.use.held_out, seed=study.seed)
    write_table(training, run / "training.csv")
    write_table(held_out, run / "held_out.csv")
    folder = run / "sites"
    for site in study.federation.sites:
        settings = _site_folder(folder / site.name, study, training.at(site.name))
        with show.task(f"cutting patches at {site.name}") as advance:
            own = read_cohort(settings.cohort)
            build_store(own, study.patch, settings.store, seed=study.seed, progress=advance)
    return Hospitals(folder, training, held_out)


def prepared(study: Study, run: Path) -> Hospitals | None:
    """Return the hospitals of a run that was prepared before; None where that never ended."""
    folder = run / "sites"
    for site in study.federation.sites:
        if not (folder / site.name / "patches" / "index.json").exists():
            return None
        open_store(folder / site.name / "patches")
    return Hospitals(folder, read_cohort(run / "training.csv"), read_cohort(run / "held_out.csv"))


def write_table(cohort: Cohort, path: Path) -> None:
    """Write a cohort as a table that :func:`~willis.client.cohort.read_cohort` reads back."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(("subject", "site", "image", "label"))
    for subject in cohort.subjects:
        for scan in subject.scans:
            image = "" if scan.image is None else scan.image.resolve()
            writer.writerow((subject.name, subject.site, image, scan.label.resolve()))
    write_whole(path, text.getvalue().encode())


def _virtual_sites(study: Study, real: Cohort, virtual: int) -> Sequence[str]:
    names = [site.name for site in study.federation.sites]
    strangers = sorted(set(real.sites()) - set(names))
    if strangers:
        raise StudyError(
            f"the cohort has sites that the study does not name: {', '.join(strangers)}; "
            f"it names {', '.join(names)}"
        )
    free = [name for name in names if name not in real.sites()]
    if virtual != len(free):
        raise StudyError(
            f"the study names {len(names)} sites and the cohort fills {len(names) - len(free)} of them, "
            f"so {len(free)} are left for virtual ones, got --virtual {virtual}"
        )
    return free


def _site_folder(folder: Path, study: Study, cohort: Cohort) -> SiteSettings:
    write_table(cohort, folder / "cohort.csv")
    privacy, federation = study.privacy, study.federation
    (folder / "site.toml").write_text(
        f'name = "{folder.name}"\n'
        'cohort = "cohort.csv"\n'
        'state = "."\n'
        f'cohort_key = "{folder.name}"\n'
        f'unit = "{privacy.unit.value}"\n'
        f"epsilon_cap = {privacy.epsilon!r}\n"
        f"delta = {privacy.delta!r}\n"
        f"minimum_subjects = {federation.minimum_subjects}\n"
        f"max_update_norm = {federation.update_norm!r}\n"
        f'studies = ["{study.digest()}"]\n'
        "threads = 1\n",
        encoding="utf-8",
    )
    return read_site(folder / "site.toml")
