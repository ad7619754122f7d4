"""A release's network as a program of other engines: the same pairs from the same dice."""

import json
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from click.testing import CliRunner
from harness.made_release import study_of, write

from willis.shared.command import willis
from willis.shared.errors import ReleaseError, StateError, Unreachable
from willis.shared.networks.build import public_generator
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release_conversion import convert_release
from willis.shared.settings import parse
from willis.shared.study import Study


@pytest.fixture(params=["dp-wgan", "wgan-gp"])
def release(request, tmp_path):
    values = study_of().model_dump(mode="json")
    if request.param != "dp-wgan":
        values["recipe"] = {"name": request.param, "label_threshold": 0.25}
        values["training"] |= {"protocol": "pooled", "critic_steps": 1}
    study = parse(values, Study, where="test")
    recipe = recipe_of(study)
    return write(tmp_path / "release", study=study, arrays=recipe.released(recipe.start()))


def dice_of(release, n: int) -> list[torch.Tensor]:
    """What the release's own sampler feeds its network with, for the first n pairs of seed 4."""
    dice = [public_generator("synthesis", 4, i) for i in range(n)]
    fed = [torch.stack([torch.randn(release.study.networks.latent, generator=die) for die in dice])]
    if release.study.recipe.name == "dp-wgan":
        size = (1, *release.study.patch.size)
        fed.append(torch.stack([torch.randn(size, generator=die) for die in dice]))
    return fed


@pytest.mark.parametrize("n", [1, 5])
def test_an_exported_program_draws_the_pairs_of_the_release(release, tmp_path, n):
    path = convert_release(release, tmp_path / "generator.pt2", form="pt2")
    told = {"privacy": "", "drawing": "", "release": ""}
    program = torch.export.load(path, extra_files=told).module()
    drawn = program(*dice_of(release, n))
    torch.testing.assert_close(drawn, release.sampler().draw(first=0, n=n, seed=4), rtol=0, atol=1e-5)
    assert told["privacy"] == release.spent.sentence()
    assert json.loads(told["drawing"])["latent"] == release.study.networks.latent


def test_who_turned_gradients_off_gets_the_same_program(release, tmp_path):
    with torch.no_grad():
        path = convert_release(release, tmp_path / "generator.pt2", form="pt2")
        assert not torch.is_grad_enabled()
        drawn = torch.export.load(path).module()(*dice_of(release, 3))
    torch.testing.assert_close(drawn, release.sampler().draw(first=0, n=3, seed=4), rtol=0, atol=1e-5)


def test_onnx_draws_the_pairs_of_the_release(release, tmp_path):
    path = convert_release(release, tmp_path / "generator.onnx", form="onnx")
    onnx.checker.check_model(str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    told = session.get_modelmeta().custom_metadata_map
    assert told["privacy"] == release.spent.sentence()
    for n in (1, 5):
        fed = zip(session.get_inputs(), dice_of(release, n), strict=True)
        (drawn,) = session.run(["pairs"], {one.name: value.numpy() for one, value in fed})
        ours = release.sampler().draw(first=0, n=n, seed=4).numpy()
        np.testing.assert_allclose(np.asarray(drawn), ours, rtol=0, atol=1e-5)


def test_what_draws_by_a_procedure_is_refused(tmp_path):
    values = study_of().model_dump(mode="json")
    values["recipe"] = {"name": "appearance"}
    values["training"] |= {"protocol": "pooled", "critic_steps": 1}
    study = parse(values, Study, where="test")
    recipe = recipe_of(study)
    release = write(tmp_path / "release", study=study, arrays=recipe.released(recipe.start()))
    with pytest.raises(ReleaseError, match="recipe appearance draws by a procedure"):
        convert_release(release, tmp_path / "x.onnx", form="onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_no_file_is_overwritten_and_a_library_that_lacks_is_named(tmp_path, monkeypatch):
    release = write(tmp_path / "release")
    (tmp_path / "there.pt2").write_text("mine")
    with pytest.raises(StateError, match=r"there\.pt2 is there already"):
        convert_release(release, tmp_path / "there.pt2", form="pt2")
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    with pytest.raises(Unreachable, match=r"willis\[onnx\]"):
        convert_release(release, tmp_path / "x.onnx", form="onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["release", "there.pt2"]


def test_the_command_writes_the_program_and_says_the_privacy(tmp_path):
    release = write(tmp_path / "release")
    options = ["convert", str(release.folder), "--to", "pt2", "--out", str(tmp_path / "g.pt2")]
    done = CliRunner().invoke(willis, options)
    assert done.exit_code == 0, done.output
    assert release.spent.sentence() in done.output
    again = CliRunner().invoke(willis, [*options, "--json"])
    assert again.exit_code == StateError.exit_code
    assert "is there already" in again.output
    torch.export.load(tmp_path / "g.pt2")


def test_the_place_is_checked_before_anything_is_made(tmp_path, monkeypatch):
    release = write(tmp_path / "release")
    monkeypatch.setattr(torch.export, "export", lambda *given, **more: pytest.fail("it was exported"))
    with pytest.raises(StateError, match=r"there is no folder .*nowhere; make it"):
        convert_release(release, tmp_path / "nowhere" / "generator.pt2", form="pt2")


def test_what_travels_with_a_program_is_of_the_release_that_was_read(tmp_path):
    """Files that were changed on the disk since then are not read again."""
    release = write(tmp_path / "release")
    drawing = release.folder / "configs" / "drawing.json"
    said = json.loads(drawing.read_text())
    drawing.write_text(json.dumps(said | {"threshold": 5.0}))
    told = {"drawing": ""}
    torch.export.load(convert_release(release, tmp_path / "g.pt2", form="pt2"), extra_files=told)
    assert json.loads(told["drawing"]) == said
