"""A release as a MONAI bundle: its script draws the same pairs without Willis; what its statement says."""

import ast
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import pytest
import torch
from harness.made_release import spent_of, study_of, write
from monai.bundle.config_parser import ConfigParser
from monai.data.decathlon_datalist import load_decathlon_datalist
from nibabel.nifti1 import load

from willis.shared.export.nnunet import write_nnunet
from willis.shared.networks.critic import Critic
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import GeneratorRelease, read_release
from willis.shared.release_bundle import layout
from willis.shared.release_bundle.script_text import network_script, recipe_script, recipe_sources
from willis.shared.settings import parse
from willis.shared.study import Study

TORCH_ALONE = ("dp-wgan", "dp-merf", "dcgan", "wgan-gp")
WITH_SOURCES = (
    "appearance",
    "atlas",
    "spade",
    *(
        pytest.param(one, marks=pytest.mark.slow)
        for one in ("tuned-prior", "voted-prior", "pix2pix", "cyclegan")
    ),
)
BEYOND_TORCH = {"numpy", "scipy", "pydantic", "jaxtyping", "safetensors", "monai", "nibabel", "opacus"}
# Denies imports, so that a script shows what it can do without; tells where Willis came from, if it came.
ALONE = """\
import runpy, sys
denied, script = set(sys.argv[1].split(",")), sys.argv[2]
class Deny:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in denied:
            raise ModuleNotFoundError(f"{name} is denied", name=name)
sys.meta_path.insert(0, Deny())
sys.path[:] = [one for one in sys.path if "__editable__" not in one]
sys.argv = sys.argv[2:]
runpy.run_path(script, run_name="__main__")
origins = {getattr(m, "__file__", None) for n, m in sys.modules.items() if n.startswith("willis.shared.")}
print("ORIGINS", sorted(one for one in origins if one))
"""


def released(folder: Path, recipe: str, **patch: object) -> GeneratorRelease:
    """A release of what a recipe knows before anybody answers."""
    values = study_of().model_dump(mode="json")
    values["recipe"] = {"name": recipe}
    values["training"] |= {"protocol": "pooled", "critic_steps": 1}
    values["networks"]["depth"] = 3
    values["patch"] |= {"size": [32, 32]} | patch
    study = parse(values, Study, where="test")
    built = recipe_of(study)
    return write(folder, study=study, arrays=built.released(built.start()))


def run_script(folder: Path, *options: str, denied: set[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-I", "-c", ALONE, ",".join(denied), str(folder / layout.SCRIPT), *options]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder.parent)


@pytest.mark.parametrize("recipe", TORCH_ALONE)
def test_a_network_s_pairs_are_drawn_by_the_script_with_torch_alone(tmp_path, recipe):
    release = released(tmp_path / "release", recipe)
    options = ["--n", "7", "--seed", "5", "--out", str(tmp_path / "pairs.pt")]
    done = run_script(release.folder, *options, denied=BEYOND_TORCH | {"willis"})
    assert done.returncode == 0, done.stderr
    assert release.spent.sentence() in done.stdout
    drawn = torch.load(tmp_path / "pairs.pt", weights_only=True)
    torch.testing.assert_close(drawn, release.sampler().draw(first=0, n=7, seed=5), rtol=0, atol=1e-5)


@pytest.mark.parametrize("recipe", WITH_SOURCES)
def test_another_recipe_s_pairs_are_drawn_by_the_sources_beside_the_script(tmp_path, recipe):
    release = released(tmp_path / "release", recipe)
    options = ["--n", "2", "--seed", "5", "--out", str(tmp_path / "pairs.pt")]
    done = run_script(release.folder, *options, denied={"opacus", "nibabel", "flwr"})
    assert done.returncode == 0, done.stderr
    origins = ast.literal_eval(done.stdout.partition("ORIGINS ")[2])
    assert origins
    assert all(f"{layout.SOURCES}/willis/" in one for one in origins)
    drawn = torch.load(tmp_path / "pairs.pt", weights_only=True)
    torch.testing.assert_close(drawn, release.sampler().draw(first=0, n=2, seed=5), rtol=0, atol=1e-5)


def test_three_dimensions_and_a_later_pair(tmp_path):
    release = released(tmp_path / "release", "wgan-gp", size=[16, 16, 16])
    options = ["--n", "3", "--seed", "0", "--out", str(tmp_path / "pairs.pt")]
    done = run_script(release.folder, *options, denied=BEYOND_TORCH | {"willis"})
    assert done.returncode == 0, done.stderr
    drawn = torch.load(tmp_path / "pairs.pt", weights_only=True)
    assert drawn.shape == (3, 2, 16, 16, 16)
    later = release.sampler().draw(first=2, n=1, seed=0)
    torch.testing.assert_close(drawn[2:], later, rtol=0, atol=1e-5)


def test_a_library_that_lacks_is_named(tmp_path):
    release = released(tmp_path / "release", "appearance")
    options = ["--n", "2", "--seed", "5", "--out", str(tmp_path / "pairs.pt")]
    done = run_script(release.folder, *options, denied={"pydantic"})
    assert done.returncode == 1
    assert done.stderr.startswith("generator.py: pydantic")
    assert "pip install" in done.stderr
    assert not (tmp_path / "pairs.pt").exists()


@pytest.mark.parametrize("n", ["0", "-3", "10000001"])
def test_the_script_refuses_what_it_cannot_draw(tmp_path, n):
    release = write(tmp_path / "release")
    out = tmp_path / "pairs.pt"
    done = run_script(release.folder, "--n", n, "--seed", "1", "--out", str(out), denied={"willis"})
    assert done.returncode == 1
    assert f"n must be 1 to 10000000, seed and first at least 0; got {n}, 1 and 0" in done.stderr
    assert not out.exists()


def test_monai_runs_the_bundle_into_the_data_set_that_willis_writes(tmp_path):
    release = write(tmp_path / "release")
    files = sorted(path for path in release.folder.rglob("*") if path.is_file())
    command = [sys.executable, "-B", "-m", "monai.bundle", "run", "--config_file", layout.INFERENCE]
    options = ["--meta_file", layout.METADATA, "--n", "3", "--seed", "9", "--output_dir", str(tmp_path / "b")]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, cwd=release.folder
    )
    assert done.returncode == 0, done.stderr
    assert sorted(path for path in release.folder.rglob("*") if path.is_file()) == files, (
        "a signature covers all"
    )
    patches, study = release.sampler().draw(first=0, n=3, seed=9), release.study
    ours = write_nnunet(
        [patches], tmp_path / "a", spec=study.patch, name=study.name, foreground="vessels", about={}
    )
    theirs = tmp_path / "b" / ours.name
    for path in sorted(ours.rglob("*.nii.gz")):
        one, other = load(path), load(theirs / path.relative_to(ours))
        np.testing.assert_array_equal(one.affine, other.affine)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        assert one.header.get_xyzt_units() == other.header.get_xyzt_units()
    sheet = json.loads((theirs / "dataset.json").read_text())
    assert sheet["numTraining"] == 3
    listed = load_decathlon_datalist(str(theirs / "datalist.json"), data_list_key="training")
    assert [Path(one["label"]).name for one in listed] == [f"syn_{number:06d}.nii.gz" for number in range(3)]
    assert all(Path(one[key]).is_file() for one in listed for key in ("image", "label"))
    assert sheet["privacy"] == release.spent.sentence()
    assert sheet["channel_names"] == json.loads((ours / "dataset.json").read_text())["channel_names"]


def test_a_data_set_is_not_written_over_another(tmp_path):
    release = write(tmp_path / "release")
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "mine.txt").write_text("keep")
    parser = ConfigParser({"pairs": json.loads((release.folder / layout.INFERENCE).read_text())})
    assert parser["pairs"]["pairs"]["_target_"] == "scripts.generator.Pairs"
    options = ["--n", "1", "--seed", "1", "--nnunet", str(tmp_path / "there")]
    done = run_script(release.folder, *options, denied={"willis"})
    assert done.returncode == 1
    assert "already holds something" in done.stderr
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["mine.txt"]


@pytest.mark.parametrize("unit", ["subject", "patch"])
def test_the_privacy_statement_fits_its_schema_and_names_all_that_a_figure_needs(tmp_path, unit):
    folder = write(tmp_path / "release", unit).folder
    statement = json.loads((folder / layout.STATEMENT).read_text())
    jsonschema.validate(statement, json.loads((folder / layout.STATEMENT_SCHEMA).read_text()))
    assert statement["unit"] == unit
    assert statement["patient_level"] is (unit == "subject")
    assert {name: site["epsilon"] for name, site in statement["sites"].items()} == {
        "north": 1.25,
        "south": 2.5,
    }
    prose = (folder / layout.STATEMENT_PROSE).read_text()
    assert spent_of(2.5, unit).sentence() in prose
    assert ("does not hold for a patient" in prose) is (unit == "patch")
    broken = statement | {"unit": "hospital"}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, json.loads((folder / layout.STATEMENT_SCHEMA).read_text()))


def test_the_statement_of_a_secure_sum_names_whom_the_figure_trusts(tmp_path):
    plain = write(tmp_path / "plain")
    values = plain.study.model_dump(mode="json")
    values["training"] |= {"protocol": "pooled", "critic_steps": 1}
    values["recipe"] = {"name": "dp-merf"}
    values["federation"] |= {"quorum": 2, "secure": {"colluders": 0}}
    study = parse(values, Study, where="test")
    recipe = recipe_of(study)
    secure = write(tmp_path / "secure", study=study, arrays=recipe.released(recipe.start()))
    mechanisms = [
        json.loads((one.folder / layout.STATEMENT).read_text())["mechanism"] for one in (plain, secure)
    ]
    assert all(one.startswith("In this study, ") for one in mechanisms)
    assert "all of the noise added at the site" in mechanisms[0]
    assert "discrete Gaussian" in mechanisms[1]
    assert "the sum of 2 sites or more alone" in mechanisms[1]
    assert "while at most 0 of the sites" in mechanisms[1]


def test_the_state_dict_is_the_weights_and_no_other_pickle(tmp_path):
    release = write(tmp_path / "release")
    state = torch.load(release.folder / layout.STATE_DICT, weights_only=True)
    assert state.keys() == release.arrays.keys()
    assert all(np.array_equal(state[name].numpy(), release.arrays[name]) for name in state)


def test_a_release_with_sources_is_read_and_its_sources_are_of_this_room_alone(tmp_path):
    release = released(tmp_path / "release", "appearance")
    assert read_release(release.folder).digest == release.digest
    with zipfile.ZipFile(io.BytesIO((release.folder / layout.SOURCES).read_bytes())) as held:
        names = [name for name in held.namelist() if not name.endswith("/")]
        assert "willis/shared/recipes/appearance/recipe.py" in names
        assert all(name.startswith("willis/shared/") for name in names)
        root = Path(__file__).parents[2] / "shared"
        assert all(held.read(name) == (root / name).read_bytes() for name in names)
    assert (
        recipe_sources("willis.shared.recipes.appearance.recipe")
        == (release.folder / layout.SOURCES).read_bytes()
    )


def test_scripts_are_one_text_without_a_name_of_ours():
    with pytest.raises(ValueError, match="no script can hold a Critic"):
        network_script(Critic)
    imported = {
        name.partition(".")[0]
        for node in ast.walk(ast.parse(recipe_script()))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for name in (
            [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
        )
    }
    assert "willis" not in imported
    assert "jaxtyping" not in imported
