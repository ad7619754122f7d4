"""From cohorts to the folders of a simulation's hospitals.

Every site of the study gets ``sites/NAME/`` with what a real one would have: its table of subjects, its
``site.toml``, its patches. Held-out subjects are in no site's table; they are listed beside the run, in
``held_out.csv``, and nothing trains on them, or scores them before the release exists.
"""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from willis.client.cohort import Cohort, read_cohort, split
from willis.client.site import SiteSettings, read_site
from willis.client.store import build_store, open_store
from willis.shared.errors import StateError, StudyError
from willis.shared.secure_sum.identity import NodeKey
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
    peers = exchange_keys(study, run, folder) if study.federation.secure is not None else {}
    for site in study.federation.sites:
        settings = _site_folder(folder / site.name, study, training.at(site.name), peers=peers)
        with show.task(f"cutting patches at {site.name}") as advance:
            own = read_cohort(settings.cohort)
            build_store(own, study.patch, settings.store, seed=study.seed, progress=advance)
    return Hospitals(folder, training, held_out)


def lay_out_patients(study: Study, out: Path, *, show: Show) -> dict[str, Path]:
    """Draw the virtual patients of every site of a study; return each site's table.

    Leaves ``NAME/cohort.csv`` for every site, and ``held_out.csv`` with the patients of no site.

    Raises:
        StateError: The folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise StateError(f"{out} is not empty; name a new folder for the patients")
    names = [site.name for site in study.federation.sites]
    with show.task(f"drawing patients of {len(names)} virtual sites") as advance:
        table = make_cohort(study, names, folder=out / "images", progress=advance)
    training, held_out = split(read_cohort(table), study.use.held_out, seed=study.seed)
    write_table(held_out, out / "held_out.csv")
    for name in names:
        write_table(training.at(name), out / name / "cohort.csv")
    return {name: out / name / "cohort.csv" for name in names}


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


_NONE: Mapping[str, str] = {}


def law_of(study: Study, name: str, *, cohort: str = "cohort.csv", peers: Mapping[str, str] = _NONE) -> str:
    """Return the text of a simulated site's ``site.toml``: it allows this very study and nothing more.

    Args:
        study: The protocol.
        name: Of the site.
        cohort: Path of its table, relative to the file.
        peers: Under secure aggregation: every site's public key, see :func:`exchange_keys`.
    """
    privacy, federation = study.privacy, study.federation
    secure = ""
    if peers:
        named = "".join(f'{site} = "{key}"\n' for site, key in peers.items())
        least = study.federation.secure.colluders if study.federation.secure else 0
        secure = f'shared_noise = true\nleast_colluders = {least}\nkey = "node.pem"\n\n[peers]\n{named}'
    return (
        f'name = "{name}"\n'
        f'cohort = "{cohort}"\n'
        'state = "."\n'
        f'cohort_key = "{name}"\n'
        f'unit = "{privacy.unit.value}"\n'
        f"epsilon_cap = {privacy.epsilon!r}\n"
        f"delta = {privacy.delta!r}\n"
        f"minimum_subjects = {federation.minimum_subjects}\n"
        f"max_update_norm = {federation.update_norm!r}\n"
        f'studies = ["{study.digest()}"]\n'
        f"threads = 1\n{secure}"
    )


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


def exchange_keys(study: Study, run: Path, folder: Path) -> dict[str, str]:
    """Make every site's key where the site lives; return the public halves, which the coordinator gets too.

    Args:
        study: The protocol, under secure aggregation.
        run: The run's folder.
        folder: With a folder for every site.
    """
    peers = {}
    for site in study.federation.sites:
        key = NodeKey.fresh()
        (folder / site.name).mkdir(parents=True, exist_ok=True)
        write_whole(folder / site.name / "node.pem", key.pem(), private=True)
        peers[site.name] = key.identity.line()
    (run / "server").mkdir(parents=True, exist_ok=True)
    write_whole(run / "server" / "peers.json", json.dumps(peers, indent=2).encode())
    return peers


def _site_folder(folder: Path, study: Study, cohort: Cohort, *, peers: Mapping[str, str]) -> SiteSettings:
    write_table(cohort, folder / "cohort.csv")
    (folder / "site.toml").write_text(law_of(study, folder.name, peers=peers), encoding="utf-8")
    return read_site(folder / "site.toml")
