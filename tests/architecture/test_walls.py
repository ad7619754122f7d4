"""The walls between rooms and the floors inside them, and that each of them can fall."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROOMS = ("shared", "client", "server", "simulations")
CONTRACTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]

# What breaks each contract: the importing module and what it imports, in both directions where there are two.
PLANTED = {
    "rooms": [
        ("willis.shared.errors", "willis.client.cohort"),
        ("willis.client.wall", "willis.server.aggregation"),
        ("willis.server.aggregation", "willis.client.cohort"),
        ("willis.server.ledger", "willis.simulations.progress"),
    ],
    "flower": [("willis.client.training", "flwr"), ("willis.shared.update", "flwr")],
    "files": [("willis.client.cohort", "nibabel"), ("willis.server.report.page", "pydicom")],
    "shared": [("willis.shared.settings", "willis.shared.study")],
    "shared.likeness": [("willis.shared.likeness.patches", "willis.shared.likeness.sheet")],
    "shared.metrics": [("willis.shared.metrics.scores", "willis.shared.metrics.sheet")],
    "shared.networks": [("willis.shared.networks.generator", "willis.shared.networks.start")],
    "shared.prior": [("willis.shared.prior.target", "willis.shared.prior.draw")],
    "shared.recipes": [("willis.shared.recipes.contract", "willis.shared.recipes.catalogue")],
    "shared.recipes.appearance": [
        ("willis.shared.recipes.appearance.statistics", "willis.shared.recipes.appearance.recipe")
    ],
    "shared.recipes.atlas": [("willis.shared.recipes.atlas.frame", "willis.shared.recipes.atlas.recipe")],
    "shared.recipes.cloud": [("willis.shared.recipes.cloud.tilt", "willis.shared.recipes.cloud.sampler")],
    "shared.recipes.dp_merf": [
        ("willis.shared.recipes.dp_merf.features", "willis.shared.recipes.dp_merf.recipe")
    ],
    "shared.recipes.dp_wgan": [
        ("willis.shared.recipes.dp_wgan.trainee", "willis.shared.recipes.dp_wgan.recipe")
    ],
    "shared.recipes.game": [("willis.shared.recipes.game.contract", "willis.shared.recipes.game.recipe")],
    "shared.recipes.gan": [("willis.shared.recipes.gan.losses", "willis.shared.recipes.gan.recipe")],
    "shared.recipes.translation": [
        ("willis.shared.recipes.translation.maps", "willis.shared.recipes.translation.recipe")
    ],
    "shared.recipes.tuned_prior": [
        ("willis.shared.recipes.tuned_prior.simulation", "willis.shared.recipes.tuned_prior.recipe")
    ],
    "shared.recipes.voted_prior": [
        ("willis.shared.recipes.voted_prior.histogram", "willis.shared.recipes.voted_prior.recipe")
    ],
    "client.node": [("willis.client.node.audit", "willis.client.node.command")],
    "server.hub": [("willis.server.hub.settings", "willis.server.hub.command")],
    "shared.secure_sum": [("willis.shared.secure_sum.terms", "willis.shared.secure_sum.agreement")],
    "shared.collection": [("willis.shared.collection.kit", "willis.shared.collection.door")],
    "collectors": [("willis.shared.collection.kit", "torch")],
    "shared.release_bundle": [
        ("willis.shared.release_bundle.layout", "willis.shared.release_bundle.bundle_files")
    ],
    "shared.export": [("willis.shared.export.whole_folder", "willis.shared.export.npz")],
    "client": [("willis.client.sampling", "willis.client.app")],
    "client.ingest": [("willis.client.ingest.table", "willis.client.ingest.check")],
    "client.ingest.dicom": [("willis.client.ingest.dicom.rule", "willis.client.ingest.dicom.intake")],
    "client.pacs": [("willis.client.pacs.settings", "willis.client.pacs.fetch")],
    "server": [("willis.server.checkpoint", "willis.server.rounds")],
    "server.report": [("willis.server.report.ledger", "willis.server.report.page")],
    "simulations": [("willis.simulations.progress", "willis.simulations.run")],
    "simulations.experiments": [
        ("willis.simulations.experiments.experiment", "willis.simulations.experiments.runner")
    ],
    "simulations.benchmarks": [
        ("willis.simulations.benchmarks.report", "willis.simulations.benchmarks.catalogue")
    ],
    "simulations.benchmarks.use": [
        ("willis.simulations.benchmarks.use.grid", "willis.simulations.benchmarks.use.runner")
    ],
}


def check(root: Path) -> tuple[int, dict[str, str]]:
    """Return import-linter's exit code, and what it says of each contract, by its id.

    Python starts without site, so that the installed rooms are not merged with the ones under ``root``.
    """
    run = "from importlinter.cli import lint_imports_command as run; run()"
    command = [sys.executable, "-S", "-c", run]
    paths = os.pathsep.join([*(str(root / room) for room in ROOMS), sysconfig.get_path("purelib")])
    ended = subprocess.run(
        [*command, "--no-cache", "--no-logo"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": paths, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    said = {}
    for contract in CONTRACTS:
        name = contract["name"]
        verdict = re.search(rf"^{re.escape(name)} (KEPT|BROKEN)", ended.stdout, re.M)
        assert verdict, ended.stdout + ended.stderr
        details = re.search(
            rf"^{re.escape(name)}\n-+\n(.*?)(?=^\S[^\n]*\n-+\n|\Z)", ended.stdout, re.M | re.S
        )
        said[contract["id"]] = verdict[1] + "\n" + (details[1] if details else "")
    return ended.returncode, said


def file_of(root: Path, module: str) -> Path:
    """Return the file of ``willis.ROOM.NAME``."""
    parts = module.split(".")
    return root.joinpath(parts[1], *parts).with_suffix(".py")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """A copy of the four rooms, to be spoilt."""
    for room in ROOMS:
        shutil.copytree(ROOT / room, tmp_path / room, ignore=lambda _, names: _other_than_python(names))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def _other_than_python(names: list[str]) -> list[str]:
    return [name for name in names if name == "__pycache__" or ("." in name and not name.endswith(".py"))]


def test_every_contract_is_kept():
    code, said = check(ROOT)
    assert code == 0, "\n".join(said.values())
    assert set(said) == set(PLANTED)


@pytest.mark.parametrize(
    ("contract", "importer", "imported"),
    [(contract, *pair) for contract, pairs in PLANTED.items() for pair in pairs],
)
def test_a_contract_breaks_when_an_import_is_planted(copied, contract, importer, imported):
    file = file_of(copied, importer)
    file.write_text(f"{file.read_text()}\nimport {imported}\n")
    code, said = check(copied)
    assert code == 1
    assert said[contract].startswith("BROKEN")
    assert f"{importer} -> {imported}" in said[contract]


def test_a_file_that_nobody_placed_breaks_the_floors_of_its_room(copied):
    containers = [contract for contract in CONTRACTS if contract.get("exhaustive")]
    assert {contract["containers"][0].split(".")[1] for contract in containers} == set(ROOMS)
    for contract in containers:
        file_of(copied, f"{contract['containers'][0]}.unplaced").write_text("")
    code, said = check(copied)
    assert code == 1
    for contract in containers:
        assert said[contract["id"]].startswith("BROKEN"), contract
        assert f"{contract['containers'][0]}.unplaced" in said[contract["id"]]


def test_every_folder_with_code_has_floors():
    folders = {
        ".".join(file.parent.relative_to(ROOT).parts[1:])
        for room in ROOMS
        for file in (ROOT / room / "willis").rglob("*.py")
    }
    assert folders == {name for contract in CONTRACTS for name in contract.get("containers", [])}


def inits(root: Path) -> list[Path]:
    """Return files that would make one room hide the others, or name a part of one twice."""
    return [file for room in ROOMS for file in (root / room).rglob("__init__.py")]


def test_willis_is_a_namespace_that_all_rooms_share(tmp_path):
    assert inits(ROOT) == []
    for room in ROOMS:
        (tmp_path / room / "willis").mkdir(parents=True)
    planted = tmp_path / "server" / "willis" / "__init__.py"
    planted.write_text("")
    assert inits(tmp_path) == [planted]


def test_all_four_rooms_are_found_where_they_lie():
    import willis

    found = {Path(path).resolve() for path in willis.__path__}
    assert {(ROOT / room / "willis").resolve() for room in ROOMS} <= found


COMMAND_MODULES = [
    "willis.shared.command",
    *(f"willis.{room}.cli" for room in ROOMS),
]


def test_commands_import_nothing_slow():
    """What a command does is imported when it runs: its help must be instant."""
    slow = ["torch", "numpy", "scipy", "monai", "matplotlib", "flwr", "dp_accounting", "pydantic", "rich"]
    script = f"import sys, {', '.join(COMMAND_MODULES)}; print([m for m in {slow} if m in sys.modules])"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip() == "[]"


def test_a_hospitals_commands_do_not_import_the_coordinator():
    script = (
        "import sys, willis.client.cli, willis.client.app\n"
        "print([name for name in sys.modules if name.startswith(('willis.server', 'willis.simulations'))])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ended.stdout.strip().splitlines()[-1] == "[]"
