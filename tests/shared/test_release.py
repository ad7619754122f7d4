"""A release: what is written is read; what does not fit or contradicts is not released."""

import math
import subprocess

import numpy as np
import pytest
import torch
from harness.made_release import FILES, spent_of, study_of, write

from willis.shared.errors import ReleaseError, StateError
from willis.shared.networks.build import build_generator
from willis.shared.networks.generator import Generator
from willis.shared.networks.start import arrays_of
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.release import read_release


def test_what_is_written_is_read(tmp_path):
    written = write(tmp_path / "release")
    found = read_release(tmp_path / "release")
    assert found.digest == written.digest
    assert found.sheet == written.sheet
    assert found.study == study_of()
    assert found.spent == spent_of(2.5)
    assert {name: site.spent.epsilon for name, site in found.sites.items()} == {"north": 1.25, "south": 2.5}
    assert found.sites["south"].ledger_head == "cd34"
    original = arrays_of(build_generator(study_of()))
    assert all(np.array_equal(found.arrays[name], original[name]) for name in original)


def test_the_generator_is_that_of_the_study_and_does_not_train(tmp_path):
    sampler = write(tmp_path / "release").sampler()
    assert isinstance(sampler, NetworkSampler)
    network = sampler.network
    assert isinstance(network, Generator)
    dice = [torch.Generator().manual_seed(3) for _ in range(2)]
    with torch.no_grad():
        expected = build_generator(study_of()).eval().draw(2, dice[0])
        assert torch.equal(network.draw(2, dice[1]), expected)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_same_input_same_bytes(tmp_path):
    first, second = write(tmp_path / "a"), write(tmp_path / "elsewhere" / "b")
    assert first.digest == second.digest
    found = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert sorted(path.relative_to(tmp_path / "a").as_posix() for path in found) == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "elsewhere" / "b" / name).read_bytes()


def test_digests_are_those_of_coreutils(tmp_path):
    write(tmp_path / "release")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path / "release", capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(": OK") == len(FILES) - 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda arrays: arrays.pop("seed.bias"), "seed.bias: missing"),
        (lambda arrays: arrays.update(extra=np.zeros(1, np.float32)), "extra: unknown"),
        (lambda arrays: arrays.update({"seed.bias": np.zeros(3, np.float32)}), r"seed.bias: float32 \(3,\)"),
        (lambda arrays: arrays.update({"seed.bias": arrays["seed.bias"].astype(np.float64)}), "float64"),
        (lambda arrays: arrays.update({"seed.bias": arrays["seed.bias"] * math.nan}), "not finite"),
    ],
)
def test_weights_that_do_not_fit_are_not_released(tmp_path, change, message):
    arrays = arrays_of(build_generator(study_of()))
    change(arrays)
    with pytest.raises(ReleaseError, match=message):
        write(tmp_path / "release", arrays=arrays)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": spent_of(2.0)}, "south: .*more than the network's epsilon 2.00"),
        ({"network": spent_of(2.5, delta=1e-6)}, "north: .*more than the network's"),
        ({"spent": {"north": spent_of(1.0, "patch")}}, "north: .*the study is about unit subject"),
        ({"spent": {"east": spent_of(1.0)}}, "the study knows no 'east'"),
        ({"spent": {}}, "sites"),
        ({"rounds": 0}, "rounds"),
        ({"run": "../up"}, "run"),
    ],
)
def test_figures_that_contradict_are_not_released(tmp_path, changes, message):
    with pytest.raises(ReleaseError, match=message):
        write(tmp_path / "release", **changes)
    assert list(tmp_path.iterdir()) == []


def test_the_network_s_figure_is_also_the_worst_patient_s(tmp_path):
    worst = {"north": spent_of(1.0, "patch", patient_epsilon=None), "south": spent_of(2.5, "patch")}
    with pytest.raises(
        ReleaseError, match=r"north: .*per patient epsilon unbounded.*more than the network's"
    ):
        write(tmp_path / "release", "patch", spent=worst)


def test_an_occupied_folder_is_left_alone(tmp_path):
    (tmp_path / "release").mkdir()
    (tmp_path / "release" / "mine.txt").write_text("keep")
    with pytest.raises(StateError, match="already holds something"):
        write(tmp_path / "release")
    assert [path.name for path in tmp_path.rglob("*")] == ["release", "mine.txt"]


def test_an_empty_folder_is_filled(tmp_path):
    (tmp_path / "release").mkdir()
    write(tmp_path / "release")
    assert read_release(tmp_path / "release").sheet.rounds == 3


def test_a_file_in_the_way_of_the_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot write"):
        write(tmp_path / "file" / "release")
