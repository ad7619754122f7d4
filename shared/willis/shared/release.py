"""A generator fit to leave: what was learned, what it cost in privacy, a model card, the digest of each.

A release is a folder of four files, the same bytes for the same input:

* ``generator.safetensors``: float32 arrays that the study's recipe draws from: the weights of a network,
  or what was learned about the prior;
* ``release.json``: the study, the run, what every site has spent, versions;
* ``README.md``: the model card;
* ``SHA256SUMS``: digests of the other three. They show damage; they are no signature.
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
from safetensors.numpy import save as save_tensors

from willis.shared.errors import ReleaseError
from willis.shared.export.model_card import model_card
from willis.shared.export.whole_folder import whole_folder
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.recipes.contract import Sampler
from willis.shared.release_sheet import FORMAT, PublicStart, ReleaseSheet, SiteSpending, check_sheet
from willis.shared.settings import parse
from willis.shared.study import Study
from willis.shared.update import Arrays

_WEIGHTS, _SHEET, _CARD, _SUMS = "generator.safetensors", "release.json", "README.md", "SHA256SUMS"
_SIGNED = (_CARD, _WEIGHTS, _SHEET)
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
    _check_arrays(arrays, study)
    files = {
        _WEIGHTS: save_tensors({name: np.ascontiguousarray(arrays[name]) for name in sorted(arrays)}),
        _SHEET: (json.dumps(sheet.model_dump(mode="json"), indent=2, sort_keys=True) + "\n").encode(),
        _CARD: _card(sheet).encode(),
    }
    files[_SUMS] = "".join(f"{_sha256(files[name])}  {name}\n" for name in _SIGNED).encode()
    with whole_folder(folder) as part:
        for name, data in files.items():
            (part / name).write_bytes(data)
    return GeneratorRelease(
        folder=folder, sheet=sheet, arrays=load_tensors(files[_WEIGHTS]), digest=_sha256(files[_SUMS])
    )


def read_release(folder: Path) -> GeneratorRelease:
    """Read a release; every digest is checked before anything in it is interpreted.

    Raises:
        ReleaseError: A file is missing or changed, the weights are a pickle, the format is of another
            version, or the arrays are not the recipe's.
    """
    files = _read_files(folder)
    sums = _parse_sums(files[_SUMS], folder)
    for name in _SIGNED:
        if _sha256(files[name]) != sums[name]:
            raise ReleaseError(f"{folder / name} is not the file that was released; fetch the release again")
    sheet = _parse_sheet(files[_SHEET], folder)
    check_sheet(sheet)
    arrays = _parse_weights(files[_WEIGHTS], folder)
    _check_arrays(arrays, sheet.study)
    return GeneratorRelease(folder=folder, sheet=sheet, arrays=arrays, digest=_sha256(files[_SUMS]))


def _card(sheet: ReleaseSheet) -> str:
    return model_card(
        sheet.study,
        run=sheet.run,
        rounds=sheet.rounds,
        network=sheet.network,
        spent={name: site.spent for name, site in sheet.sites.items()},
        ledger_heads={name: site.ledger_head for name, site in sheet.sites.items()},
        start=sheet.start.sentence(),
        versions=sheet.versions,
    )


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _read_files(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        raise ReleaseError(f"{folder} is not a release: there is no such folder")
    missing = [name for name in (*_SIGNED, _SUMS) if not (folder / name).is_file()]
    if missing:
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        hint = f"; {', '.join(pickles)} may be a pickle, which is never opened" if pickles else ""
        raise ReleaseError(f"{folder} is not a whole release: {', '.join(missing)} missing{hint}")
    try:
        return {name: (folder / name).read_bytes() for name in (*_SIGNED, _SUMS)}
    except OSError as fault:
        raise ReleaseError(f"cannot read the release in {folder}: {fault.strerror}") from fault


def _parse_sums(data: bytes, folder: Path) -> dict[str, str]:
    lines = [line.split("  ", 1) for line in data.decode("ascii", "replace").splitlines()]
    sums = {line[1]: line[0] for line in lines if len(line) == 2}
    if sorted(sums) != sorted(_SIGNED) or len(lines) != len(_SIGNED):
        raise ReleaseError(f"{folder / _SUMS} must hold a digest for each of {', '.join(_SIGNED)}")
    return sums


def _parse_sheet(data: bytes, folder: Path) -> ReleaseSheet:
    path = folder / _SHEET
    try:
        values = json.loads(data)
    except (ValueError, RecursionError) as fault:
        raise ReleaseError(f"{path} is not valid JSON; fetch the release again") from fault
    found = values.get("format") if isinstance(values, dict) else None
    if found != FORMAT:
        raise ReleaseError(f"{path} has format {found!r}, this Willis reads {FORMAT}; use its writer's")
    return parse(values, ReleaseSheet, where=str(path), error=ReleaseError)


def _parse_weights(data: bytes, folder: Path) -> Arrays:
    path = folder / _WEIGHTS
    try:
        return load_tensors(data)
    except (SafetensorError, KeyError, ValueError) as fault:  # KeyError: a dtype that NumPy lacks
        if data[:1] == b"\x80" or data[:2] == b"PK":  # pickle, or torch.save's zip of pickles
            raise ReleaseError(f"{path} is a pickle, which can run code and is never opened") from fault
        raise ReleaseError(f"{path} is not safetensors ({fault}); fetch the release again") from fault


def _check_arrays(arrays: Arrays, study: Study) -> None:
    problems = []
    for name in sorted(arrays):
        if arrays[name].dtype != np.float32:
            problems.append(f"{name}: {arrays[name].dtype}, wanted float32")
        elif not bool(np.isfinite(arrays[name]).all()):
            problems.append(f"{name}: holds numbers that are not finite")
    if not problems:
        try:
            recipe_of(study).sampler(arrays)
        except ValueError as fault:
            problems = str(fault).split("; ")
    if problems:
        raise ReleaseError(
            f"the weights do not fit the {study.recipe.name} generator of study {study.name}", problems
        )
