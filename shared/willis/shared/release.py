"""A generator fit to leave: what was learned, what it cost in privacy, a model card, the digest of each.

A release is a folder that is a MONAI bundle, the same bytes for the same input
(:mod:`~willis.shared.release_bundle.layout`):

* ``models/``: float32 arrays that the study's recipe draws from, as safetensors and as a state dict that
  ``torch.load(weights_only=True)`` takes;
* ``configs/``: for ``python -m monai.bundle run``;
* ``scripts/``: draws the pairs without Willis;
* ``docs/``: the model card, and the privacy statement for machines and for people;
* ``release.json``: the study, the run, what every site has spent, versions;
* ``SHA256SUMS``: digests of all the others. They show damage; only a signature beside them shows whose they
  are.

Willis itself reads the safetensors and ``release.json`` alone, and never runs or unpickles what it reads.
"""

import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors

from willis.shared.errors import ReleaseError
from willis.shared.export.whole_folder import whole_folder
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import Sampler
from willis.shared.release_bundle import layout
from willis.shared.release_bundle.bundle_files import bundle_files
from willis.shared.release_sheet import FORMAT, PublicStart, ReleaseSheet, SiteSpending, check_sheet
from willis.shared.release_signature import parse_sums
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.shared.update import Arrays

_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"})
_LIBRARIES = ("willis", "torch", "numpy", "safetensors", "opacus", "dp-accounting")


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratorRelease:
    """A release that has been written, or read and found sound.

    Attributes:
        sheet: What ``release.json`` says.
        arrays: What the study's recipe draws from, by name, float32.
        digest: SHA-256 of ``SHA256SUMS``: one name for all of the release's bytes.
    """

    folder: Path
    sheet: ReleaseSheet
    arrays: Arrays
    digest: str

    @property
    def study(self) -> Study:
        """The protocol it was trained by."""
        return self.sheet.study

    @property
    def spent(self) -> PrivacySpent:
        """The bound for a patient seen at one site only."""
        return self.sheet.network

    @property
    def sites(self) -> Mapping[str, SiteSpending]:
        """What every site that took part has spent."""
        return self.sheet.sites

    def sampler(self) -> Sampler:
        """Return what draws labelled patches."""
        return recipe_of(self.study).sampler(self.arrays)


def write_release(
    folder: Path,
    *,
    study: Study,
    arrays: Arrays,
    run: str,
    rounds: int,
    network: PrivacySpent,
    spent: Mapping[str, PrivacySpent],
    ledger_heads: Mapping[str, str],
) -> GeneratorRelease:
    """Write a release, whole or not at all.

    Args:
        folder: Must not exist, or be empty.
        arrays: What the recipe draws from, by name, float32.
        rounds: Rounds merged.
        network: The bound for a patient seen at one site only; not below any site's.
        spent: What every site that took part has spent.
        ledger_heads: Last hash of each of their ledgers.

    Raises:
        ReleaseError: The arrays are not the recipe's, or a privacy figure does not fit.
        StateError: The folder is not empty, or cannot be written.
    """
    sites = {
        name: {"spent": spent[name], "ledger_head": ledger_heads.get(name, "")} for name in sorted(spent)
    }
    start = PublicStart(
        warm_start=study.training.warm_start, prior=study.prior.family, recipe=study.recipe.name
    )
    fields = {"study": study, "study_digest": study.digest(), "run": run, "rounds": rounds, "sites": sites}
    versions = {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
    fields |= {"network": network, "start": start, "versions": versions}
    sheet = parse(fields, ReleaseSheet, where="the release", error=ReleaseError)
    check_sheet(sheet)
    arrays = {name: np.array(arrays[name]) for name in sorted(arrays)}
    files = bundle_files(sheet, arrays, _sampler(arrays, study))
    sums = "".join(f"{_sha256(files[name])}  {name}\n" for name in sorted(files)).encode()
    with whole_folder(folder) as part:
        for name, data in (files | {layout.SUMS: sums}).items():
            (part / name).parent.mkdir(exist_ok=True)
            (part / name).write_bytes(data)
    return GeneratorRelease(folder=folder, sheet=sheet, arrays=arrays, digest=_sha256(sums))


def read_release(folder: Path) -> GeneratorRelease:
    """Read a release; every digest is checked before anything in it is interpreted.

    Raises:
        ReleaseError: A file is missing or changed, the weights are a pickle, the format is of another
            version, or the arrays are not the recipe's.
    """
    files = _read_files(folder)
    sheet = _parse_sheet(files[layout.SHEET], folder)
    check_sheet(sheet)
    arrays = _parse_weights(files[layout.WEIGHTS], folder)
    _sampler(arrays, sheet.study)
    return GeneratorRelease(folder=folder, sheet=sheet, arrays=arrays, digest=_sha256(files[layout.SUMS]))


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_files(folder: Path) -> dict[str, bytes]:
    """Return every file that the digests name, each as it was released."""
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is not a release: there is no such folder")
    _check_there(folder, (layout.SUMS, *layout.FILES))
    sums = _bytes_of(folder, layout.SUMS)
    named = parse_sums(sums, where=str(folder))
    lacking = sorted({*layout.FILES} - named.keys())
    if lacking:
        raise ReleaseError(f"{folder / layout.SUMS} must hold a digest for each of {', '.join(lacking)}")
    _check_there(folder, tuple(named))
    files = {name: _bytes_of(folder, name) for name in named}
    for name, data in files.items():
        if _sha256(data) != named[name]:
            raise ReleaseError(f"{folder / name} is not the file that was released; fetch the release again")
    return files | {layout.SUMS: sums}


def _check_there(folder: Path, names: tuple[str, ...]) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        strangers = {path.relative_to(folder).as_posix() for path in folder.rglob("*")} - {layout.STATE_DICT}
        pickles = sorted(name for name in strangers if Path(name).suffix in _PICKLES)
        hint = f"; {', '.join(pickles)} may be a pickle, which is never opened" if pickles else ""
        raise ReleaseError(f"{folder} is not a whole release: {', '.join(missing)} missing{hint}")


def _bytes_of(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as fault:
        raise ReleaseError(f"cannot read the release in {folder}: {fault.strerror}") from fault


def _parse_sheet(data: bytes, folder: Path) -> ReleaseSheet:
    path = folder / layout.SHEET
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise ReleaseError(f"{path} is not valid JSON; fetch the release again") from fault
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise ReleaseError(f"{path} has format {found!r}, this Willis reads {FORMAT}; use its writer's")
    return parse(values, ReleaseSheet, where=str(path), error=ReleaseError)


def _parse_weights(data: bytes, folder: Path) -> Arrays:
    path = folder / layout.WEIGHTS
    try:
        return load_tensors(data)
    except (SafetensorError, KeyError, ValueError) as fault:  # KeyError: a dtype that NumPy lacks
        if data[:1] == b"\x80" or data[:2] == b"PK":  # pickle, or torch.save's zip of pickles
            raise ReleaseError(f"{path} is a pickle, which can run code and is never opened") from fault
        raise ReleaseError(f"{path} is not safetensors ({fault}); fetch the release again") from fault


def _sampler(arrays: Arrays, study: Study) -> Sampler:
    """Return what draws from the arrays.

    Raises:
        ReleaseError: They are not the recipe's, with every fault.
    """
    problems = []
    for name in sorted(arrays):
        if arrays[name].dtype != np.float32:
            problems.append(f"{name}: {arrays[name].dtype}, wanted float32")
        elif not bool(np.isfinite(arrays[name]).all()):
            problems.append(f"{name}: holds numbers that are not finite")
    if not problems:
        try:
            return recipe_of(study).sampler(arrays)
        except ValueError as fault:
            problems = str(fault).split("; ")
    raise ReleaseError(
        f"the weights do not fit the {study.recipe.name} generator of study {study.name}", problems
    )
