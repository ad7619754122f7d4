"""A generator fit to leave: weights, what they cost in privacy, a model card, and the digest of each.

A release is a folder of four files, the same bytes for the same input:

* ``generator.safetensors``: float32 weights, the average over the rounds;
* ``release.json``: the study, the run, what every site has spent, versions;
* ``README.md``: the model card;
* ``SHA256SUMS``: digests of the other three. They show damage; they are no signature.
"""

import hashlib
import json
import math
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
from pydantic import Field
from safetensors import SafetensorError
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors

from willis.shared.errors import ReleaseError
from willis.shared.export.model_card import model_card
from willis.shared.export.whole_folder import whole_folder
from willis.shared.networks.build import build_generator
from willis.shared.networks.generator import Generator
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import Settings, parse
from willis.shared.study import Name, Study
from willis.shared.update import Arrays, Digest, arrays_from_state, state_from_arrays

FORMAT = 1
_WEIGHTS, _SHEET, _CARD, _SUMS = "generator.safetensors", "release.json", "README.md", "SHA256SUMS"
_SIGNED = (_CARD, _WEIGHTS, _SHEET)
_PICKLES = frozenset({".pt", ".pth", ".pkl", ".pickle", ".bin", ".ckpt"})
_LIBRARIES = ("willis", "torch", "numpy", "safetensors", "opacus", "dp-accounting")


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
    """

    warm_start: str
    prior: str
    epsilon: float = Field(default=0.0, ge=0, le=0)
    note: str = "made from a public procedure and public seeds; no patient's data was looked at"

    def sentence(self) -> str:
        """Return the start on one line."""
        weights = "fresh weights" if self.warm_start == "none" else f'the warm start "{self.warm_start}"'
        return (
            f"Before the first round: {weights}, and the procedural prior of the {self.prior} family. They "
            f"cost epsilon {self.epsilon:g}: {self.note}."
        )


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


@dataclass(frozen=True, eq=False, kw_only=True)
class GeneratorRelease:
    """A release that has been written, or read and found sound.

    Attributes:
        sheet: What ``release.json`` says.
        arrays: The generator's weights by name, float32.
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

    def generator(self) -> Generator:
        """Return the generator with the release's weights, on the CPU, in evaluation mode."""
        network = build_generator(self.study)
        network.load_state_dict(state_from_arrays(self.arrays))
        return network.eval().requires_grad_(False)


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
        arrays: The generator's weights by name, float32; the average over the rounds.
        rounds: Rounds merged.
        network: The bound for a patient seen at one site only; not below any site's.
        spent: What every site that took part has spent.
        ledger_heads: Last hash of each of their ledgers.

    Raises:
        ReleaseError: The weights do not fit the study's generator, or a privacy figure does not fit.
        StateError: The folder is not empty, or cannot be written.
    """
    sites = {
        name: {"spent": spent[name], "ledger_head": ledger_heads.get(name, "")} for name in sorted(spent)
    }
    start = PublicStart(warm_start=study.training.warm_start, prior=study.prior.family)
    fields = {"study": study, "study_digest": study.digest(), "run": run, "rounds": rounds, "sites": sites}
    versions = {"python": platform.python_version()} | {name: version(name) for name in _LIBRARIES}
    fields |= {"network": network, "start": start, "versions": versions}
    sheet = parse(fields, ReleaseSheet, where="the release", error=ReleaseError)
    _check_sheet(sheet)
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
            version, or the weights do not fit the study's generator.
    """
    files = _read_files(folder)
    sums = _parse_sums(files[_SUMS], folder)
    for name in _SIGNED:
        if _sha256(files[name]) != sums[name]:
            raise ReleaseError(f"{folder / name} is not the file that was released; fetch the release again")
    sheet = _parse_sheet(files[_SHEET], folder)
    _check_sheet(sheet)
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


def _check_sheet(sheet: ReleaseSheet) -> None:
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


def _check_arrays(arrays: Arrays, study: Study) -> None:
    wanted = arrays_from_state(build_generator(study).state_dict())
    problems = [f"{name}: missing" for name in sorted(set(wanted) - set(arrays))]
    problems += [f"{name}: unknown" for name in sorted(set(arrays) - set(wanted))]
    for name in sorted(set(wanted) & set(arrays)):
        value = arrays[name]
        if value.shape != wanted[name].shape or value.dtype != np.float32:
            problems.append(f"{name}: {value.dtype} {value.shape}, wanted float32 {wanted[name].shape}")
        elif not bool(np.isfinite(value).all()):
            problems.append(f"{name}: holds numbers that are not finite")
    if problems:
        raise ReleaseError(f"the weights do not fit the generator of study {study.name}", problems)
