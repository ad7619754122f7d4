"""A release is whole, says what it cost, and shows every change."""

import hashlib
import json
import math
import pickle
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import ReleaseError, StateError
from willis.shared.networks.build import build_generator
from willis.shared.networks.generator import Generator
from willis.shared.networks.start import arrays_of
from willis.shared.privacy import PrivacySpent, Relation
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.release import GeneratorRelease, read_release, write_release
from willis.shared.study import Study

FILES = ["README.md", "SHA256SUMS", "generator.safetensors", "release.json"]


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
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == FILES
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "elsewhere" / "b" / name).read_bytes()


def test_digests_are_those_of_coreutils(tmp_path):
    write(tmp_path / "release")
    command = ["sha256sum", "--check", "--strict", "SHA256SUMS"]
    done = subprocess.run(command, cwd=tmp_path / "release", capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert done.stdout.count(": OK") == 3


@pytest.mark.parametrize("name", ["README.md", "generator.safetensors", "release.json"])
def test_a_changed_file_is_named(tmp_path, name):
    write(tmp_path / "release")
    data = bytearray((tmp_path / "release" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "release" / name).write_bytes(data)
    with pytest.raises(ReleaseError, match=name):
        read_release(tmp_path / "release")


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_is_seen(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flip") / "release"
    write(folder)
    path = folder / data.draw(st.sampled_from(["README.md", "generator.safetensors", "release.json"]))
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    path.write_bytes(content)
    with pytest.raises(ReleaseError, match=path.name):
        read_release(folder)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(tmp_path, name):
    write(tmp_path / "release")
    (tmp_path / "release" / name).unlink()
    with pytest.raises(ReleaseError, match=f"{name} missing"):
        read_release(tmp_path / "release")


def test_no_folder(tmp_path):
    with pytest.raises(ReleaseError, match="no such folder"):
        read_release(tmp_path / "nothing")


def test_a_pickle_instead_of_weights_is_never_opened(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    folder = tmp_path / "release"
    write(folder)
    (folder / "generator.safetensors").write_bytes(pickle.dumps(Bomb()))
    sign(folder)
    with pytest.raises(ReleaseError, match="is a pickle"):
        read_release(folder)
    torch.save({"seed.weight": torch.zeros(1)}, folder / "generator.safetensors")
    sign(folder)
    with pytest.raises(ReleaseError, match="is a pickle"):
        read_release(folder)
    (folder / "generator.safetensors").rename(folder / "generator.pt")
    with pytest.raises(ReleaseError, match=r"generator\.pt may be a pickle"):
        read_release(folder)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_are_no_safetensors(tmp_path):
    write(tmp_path / "release")
    (tmp_path / "release" / "generator.safetensors").write_bytes(b"not weights")
    sign(tmp_path / "release")
    with pytest.raises(ReleaseError, match="is not safetensors"):
        read_release(tmp_path / "release")


def test_a_header_as_long_as_a_pickle_s_first_byte_is_read(tmp_path):
    # The first byte of safetensors is the length of its header, which may look like a pickle's mark.
    write(tmp_path / "release")
    path = tmp_path / "release" / "generator.safetensors"
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    longer = length + (0x80 - length) % 256
    header = data[8 : 8 + length].ljust(longer)
    path.write_bytes(longer.to_bytes(8, "little") + header + data[8 + length :])
    sign(tmp_path / "release")
    assert path.read_bytes()[:1] == b"\x80"
    assert read_release(tmp_path / "release").arrays.keys() == arrays_of(build_generator(study_of())).keys()


@pytest.mark.parametrize("found", [1, 3, "2", None])
def test_another_format_says_both_versions(tmp_path, found):
    write(tmp_path / "release")
    edit_sheet(tmp_path / "release", format=found)
    with pytest.raises(ReleaseError, match=f"format {found!r}, this Willis reads 2"):
        read_release(tmp_path / "release")


def test_a_sheet_that_is_no_json_or_of_unknown_keys(tmp_path):
    write(tmp_path / "release")
    edit_sheet(tmp_path / "release", epsilon=0.1)
    with pytest.raises(ReleaseError, match="epsilon: unknown key"):
        read_release(tmp_path / "release")
    (tmp_path / "release" / "release.json").write_text("{")
    sign(tmp_path / "release")
    with pytest.raises(ReleaseError, match="not valid JSON"):
        read_release(tmp_path / "release")


def test_digests_must_be_of_exactly_the_three_files(tmp_path):
    sums = tmp_path / "release" / "SHA256SUMS"
    write(tmp_path / "release")
    sums.write_text("\n".join(sums.read_text().splitlines()[:2]))
    with pytest.raises(ReleaseError, match="must hold a digest"):
        read_release(tmp_path / "release")


def test_a_study_that_is_not_the_one_of_the_digest(tmp_path):
    write(tmp_path / "release")
    edit_sheet(tmp_path / "release", study_digest="0" * 64)
    with pytest.raises(ReleaseError, match="study_digest is 000000000000"):
        read_release(tmp_path / "release")


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


def test_weights_of_another_generator_are_not_read(tmp_path):
    write(tmp_path / "release")
    other = study_of(generator_width=16)
    edit_sheet(tmp_path / "release", study=other.model_dump(mode="json"), study_digest=other.digest())
    with pytest.raises(ReleaseError, match="do not fit the dp-wgan generator"):
        read_release(tmp_path / "release")


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
