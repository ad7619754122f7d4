"""Patch i of a seed is the same whatever else is drawn with it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.cli import synthesize
from willis.shared.command import willis
from willis.shared.errors import ReleaseError, Unreachable
from willis.shared.networks.build import build_generator, public_generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent
from willis.shared.release import GeneratorRelease, write_release
from willis.shared.study import Study
from willis.shared.synthesis import draw_pairs, stream_pairs


def make_release(
    folder: Path, *, size: tuple[int, ...] = (16, 16), unit: str = "subject"
) -> GeneratorRelease:
    study = Study.model_validate(
        {
            "name": "tiny",
            "patch": {"size": size, "per_subject": 4},
            "prior": {"family": "vessels"},
            "networks": {"latent": 4, "generator_width": 8, "critic_width": 4, "depth": 2},
            "privacy": {"unit": unit, "epsilon": 8.0, "delta": 1e-4, "sampling_rate": 0.5},
            "training": {"rounds": 3, "critic_steps": 5, "patches_per_bag": 2},
            "federation": {"quorum": 1, "sites": [{"name": "north", "subjects": 20}]},
        }
    )
    fields = {"epsilon": 2.5, "delta": 1e-4, "unit": unit, "accountant": "PLD", "patient_note": "no bound"}
    spent = PrivacySpent.model_validate(fields | {"relation": "add-or-remove-one"})
    arrays = {name: 3 * value for name, value in arrays_of(build_generator(study)).items()}
    return write_release(
        folder,
        study=study,
        arrays=arrays,
        run="tiny-1",
        rounds=3,
        network=spent,
        spent={"north": spent},
        ledger_heads={},
    )


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> GeneratorRelease:
    return make_release(tmp_path_factory.mktemp("synthesis") / "release")


@pytest.fixture(scope="module")
def seventy(release) -> torch.Tensor:
    return draw_pairs(release, n=70, seed=7)


def test_values_and_shape(seventy):
    assert seventy.shape == (70, 2, 16, 16)
    assert seventy.dtype == torch.float32
    assert set(seventy[:, 1].unique().tolist()) == {-1.0, 1.0}
    assert bool((seventy[:, 0].abs() <= 1).all())
    assert float(seventy[:, 0].std()) > 0.01


def test_patch_five_by_hand(release, seventy):
    die = public_generator("synthesis", 7, 5)
    latent, texture = torch.randn(4, generator=die), torch.randn((1, 16, 16), generator=die)
    with torch.no_grad():
        soft = release.sampler().network(latent[None], texture[None])[0]
    torch.testing.assert_close(seventy[5, 0], soft[0], atol=1e-5, rtol=0)
    sure = soft[1].abs() > 1e-4
    assert torch.equal(seventy[5, 1][sure], soft[1].sign()[sure])


@settings(max_examples=12, deadline=None)
@given(n=st.integers(1, 70), batch=st.integers(1, 90))
def test_any_number_in_any_batch_is_the_start_of_the_same_series(release, seventy, n, batch):
    assert torch.equal(draw_pairs(release, n=n, seed=7, batch=batch), seventy[:n])


def test_another_seed_gives_other_patches(release, seventy):
    assert not torch.equal(draw_pairs(release, n=2, seed=8)[0], seventy[0])
    assert not torch.equal(seventy[0], seventy[1])


def test_batches_are_of_the_asked_size(release):
    assert [len(some) for some in stream_pairs(release, n=70, seed=1, batch=30)] == [30, 30, 10]
    assert [len(some) for some in stream_pairs(release, n=60, seed=1, batch=30)] == [30, 30]


def test_progress_counts_up_to_n(release):
    seen: list[int] = []
    draw_pairs(release, n=70, seed=1, batch=30, progress=seen.append)
    assert seen == [30, 60, 70]


def test_three_dimensions(tmp_path):
    solid = make_release(tmp_path / "release", size=(8, 16, 8))
    patches = draw_pairs(solid, n=3, seed=1)
    assert patches.shape == (3, 2, 8, 16, 8)
    assert torch.equal(draw_pairs(solid, n=2, seed=1, batch=1), patches[:2])


@pytest.mark.parametrize(
    ("n", "seed", "batch", "message"),
    [
        (0, 0, 1, "n must be 1 to 10000000, got 0"),
        (10_000_001, 0, 1, "got 10000001"),
        (1, -1, 1, "seed must be at least 0, got -1"),
        (1, 0, 0, "batch must be at least 1, got 0"),
    ],
)
def test_numbers_out_of_range_are_told(release, n, seed, batch, message):
    with pytest.raises(ValueError, match=message):
        stream_pairs(release, n=n, seed=seed, batch=batch)
    with pytest.raises(ValueError, match=message):
        draw_pairs(release, n=n, seed=seed, batch=batch)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(release):
    with pytest.raises(Unreachable, match="CUDA"):
        draw_pairs(release, n=1, seed=0, device="cuda")


def test_the_command_names_the_option_whose_device_is_not_there(release, tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    words = ["synthesize", str(release.folder), "--n", "5", "--seed", "3", "--out", str(tmp_path / "out")]
    ended = CliRunner().invoke(willis, [*words, "--format", "npz", "--device", "cuda"])
    assert ended.exit_code == 3
    assert ended.stderr.startswith('willis: --device is "cuda" and this torch finds no CUDA device')
    assert list(tmp_path.iterdir()) == []


def run(folder: Path, out: Path, *more: str):
    command = [str(folder), "--n", "5", "--seed", "3", "--out", str(out), *more]
    return CliRunner().invoke(synthesize, command)


def test_the_command_tells_the_privacy_sentence(tmp_path):
    release = make_release(tmp_path / "release", unit="patch")
    done = run(release.folder, tmp_path / "out", "--format", "nnunet")
    assert done.exit_code == 0, done.output
    assert f"Privacy: {release.spent.sentence()}" in done.output
    assert "NOT a patient's privacy" in done.output
    assert len(list((tmp_path / "out" / "Dataset901_Tiny" / "labelsTr").iterdir())) == 5


def test_the_command_answers_json(release, tmp_path):
    done = run(release.folder, tmp_path / "out", "--format", "npz", "--json")
    answer = json.loads(done.stdout)
    assert answer["privacy"] == release.spent.model_dump(mode="json")
    assert answer["privacy_sentence"] == release.spent.sentence()
    assert answer["release"] == release.digest
    with np.load(answer["path"]) as pairs:
        assert np.array_equal(pairs["images"], draw_pairs(release, n=5, seed=3)[:, :1].numpy())


def test_the_command_passes_errors_on(tmp_path):
    done = run(tmp_path / "nothing", tmp_path / "out", "--format", "npz")
    assert isinstance(done.exception, ReleaseError)
    assert done.exception.exit_code == 2


@pytest.mark.parametrize("n", ["0", "10000001", "many"])
def test_the_command_refuses_a_number_of_pairs(release, tmp_path, n):
    done = run(release.folder, tmp_path / "out", "--format", "npz", "--n", n)
    assert done.exit_code == 2
    assert n in done.output


def test_help_has_an_example():
    text = CliRunner().invoke(synthesize, ["--help"]).output
    assert re.search(r"Example: willis synthesize\s+runs/demo/release", text)
