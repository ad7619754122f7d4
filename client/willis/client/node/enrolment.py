"""How a hospital joins: its key, its cohort's patches, and the studies that it agrees to."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from willis.client.cohort import Cohort, read_cohort
from willis.client.node.keys import KEY_FILE, make_keys
from willis.client.node.settings_file import fill
from willis.client.site import SiteSettings, read_site
from willis.client.store import PatchStore, build_store
from willis.shared.errors import CohortError, StateError, StudyError
from willis.shared.study import Study, read_study
from willis.shared.whole_file import make_folder, write_whole

SETTINGS_FILE = "site.toml"
Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Enrolled:
    """What joining, or agreeing to another study, left behind.

    Attributes:
        site: The site's name.
        public_key: For the hub to register; empty where the key was not looked at.
        study: The study's name.
        digest: The study's digest.
        subjects: Subjects whose patches were cut.
    """

    site: str
    public_key: str
    study: str
    digest: str
    subjects: int


def enrol(folder: Path, *, cohort: Path, study: Path, progress: Progress | None = None) -> Enrolled:
    """Make a kit's folder a site: key, secret, cohort, agreement and patches; again changes nothing more.

    Args:
        folder: The kit's folder, with its ``site.toml``.
        cohort: The table of subjects.
        study: The study to agree to.
        progress: Called with (subjects cut, subjects in all).

    Raises:
        StateError: The folder is no kit's, or cannot be written.
        CohortError: The cohort cannot be used.
        StudyError: The study does not fit.
        SiteRefused: It asks for more than ``site.toml`` allows.
    """
    path = _settings_file(folder)
    read_study(study)  # what cannot be read changes nothing here
    if not cohort.is_file():
        raise CohortError(f"there is no table {cohort}; name the CSV file of subjects, images and labels")
    fill(path, {"cohort": _as_written(cohort, folder), "key": KEY_FILE})
    settings = read_site(path)
    line = make_keys(folder, settings.name)
    agreed = agree(folder, study, progress=progress)
    return Enrolled(settings.name, line, agreed.study, agreed.digest, agreed.subjects)


def agree(folder: Path, study: Path, *, progress: Progress | None = None) -> Enrolled:
    """Agree to a study: cut its patches, then add its digest to ``studies``.

    A site has the patches of one specification. A study with another one takes their place; the earlier
    studies are refused from then on until they are agreed to again.

    Args:
        folder: The site's.
        study: The study's file.
        progress: Called with (subjects cut, subjects in all).

    Raises:
        StateError: The folder is no site's, or cannot be written.
        CohortError: The cohort cannot be cut.
        StudyError: The study does not fit.
        SiteRefused: It asks for more than ``site.toml`` allows.
    """
    path = _settings_file(folder)
    settings, wanted = read_site(path), read_study(study)
    settings.model_copy(update={"studies": None}).check_study(wanted)
    store = _cut(settings, wanted, progress)
    make_folder(_copies(settings), mode=0o700)
    write_whole(_copies(settings) / f"{wanted.digest()}.json", wanted.model_dump_json(indent=2).encode())
    known = settings.studies or ()
    fill(path, {"studies": tuple(dict.fromkeys((*known, wanted.digest())))})
    return Enrolled(settings.name, "", wanted.name, wanted.digest(), store.n_subjects)


def agreed_studies(settings: SiteSettings) -> list[Study]:
    """Return the studies that the site agreed to, as far as their texts were kept; the latest is the last."""
    paths = [_copies(settings) / f"{digest}.json" for digest in settings.studies or ()]
    found = []
    for path in (one for one in paths if one.exists()):
        try:
            found.append(Study.model_validate_json(path.read_bytes()))
        except (OSError, ValueError) as fault:
            raise StudyError(f"cannot read {path}: {type(fault).__name__}; agree to it again") from fault
    return found


def own_cohort(settings: SiteSettings) -> Cohort:
    """Return the subjects of a site's table that are at the site.

    Raises:
        CohortError: The table cannot be used, or nobody in it is at this site.
    """
    return read_cohort(settings.cohort).at(settings.name)


def _cut(settings: SiteSettings, study: Study, progress: Progress | None) -> PatchStore:
    make_folder(settings.state, mode=0o700)
    settings.state.chmod(0o700)  # patients' patches: whoever made the folder
    return build_store(own_cohort(settings), study.patch, settings.store, seed=study.seed, progress=progress)


def _copies(settings: SiteSettings) -> Path:
    return settings.state / "studies"


def _settings_file(folder: Path) -> Path:
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise StateError(f"{folder} holds no {SETTINGS_FILE}: unpack the kit that the hub made there")
    return path


def _as_written(cohort: Path, folder: Path) -> str:
    table, base = cohort.resolve(), folder.resolve()
    return os.path.relpath(table, base) if table.is_relative_to(base) else str(table)
