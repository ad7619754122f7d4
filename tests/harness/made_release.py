"""A release as it is written, and as a forger would change it."""

import hashlib
import json
from pathlib import Path
from typing import Any

from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent, Relation
from willis.shared.release import GeneratorRelease, write_release
from willis.shared.release_bundle import layout
from willis.shared.study import Study

FILES = sorted([*layout.FILES, layout.SUMS])


def study_of(unit: str = "subject", **networks: int) -> Study:
    sites = [{"name": name, "subjects": 20} for name in ("north", "south", "west")]
    return Study.model_validate(
        {
            "name": "tiny-study",
            "patch": {"size": [16, 16], "per_subject": 4},
            "prior": {"family": "vessels"},
            "networks": {"latent": 4, "generator_width": 8, "critic_width": 4, "depth": 2} | networks,
            "privacy": {"unit": unit, "epsilon": 8.0, "delta": 1e-4, "sampling_rate": 0.5},
            "training": {"rounds": 3, "critic_steps": 5, "patches_per_bag": 2},
            "federation": {"quorum": 1, "sites": sites},
        }
    )


def spent_of(epsilon: float, unit: str = "subject", **more: object) -> PrivacySpent:
    if unit == "patch":
        more = {"patient_epsilon": 4 * epsilon, "patient_note": "group privacy over 4 patches"} | more
    fields = {"epsilon": epsilon, "delta": 1e-4, "unit": unit, "accountant": "PLD (some 1.0)"}
    return PrivacySpent.model_validate(fields | {"relation": Relation.ADD_OR_REMOVE} | more)


def write(folder: Path, unit: str = "subject", **changes: Any) -> GeneratorRelease:
    study = study_of(unit)
    fields: dict[str, Any] = {
        "study": study,
        "arrays": arrays_of(build_generator(study)),
        "run": "tiny-study-00ff",
        "rounds": 3,
        "network": spent_of(2.5, unit),
        "spent": {"south": spent_of(2.5, unit), "north": spent_of(1.25, unit)},
        "ledger_heads": {"north": "ab12", "south": "cd34"},
    }
    return write_release(folder, **(fields | changes))


def sign(folder: Path) -> None:
    """Make the digests fit whatever the files now hold, as a forger would."""
    names = [name for name in FILES if name != "SHA256SUMS"]
    lines = [f"{hashlib.sha256((folder / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def edit_sheet(folder: Path, **changes: Any) -> None:
    path = folder / "release.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    sign(folder)
