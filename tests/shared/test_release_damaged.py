"""A release shows every change: flipped bits, lost files, pickles, forged sheets."""

import pickle
from pathlib import Path

import pytest
import torch
from harness.made_release import FILES, edit_sheet, sign, study_of, write
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.shared.errors import ReleaseError
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.release import read_release
from willis.shared.release_bundle import layout

RELEASED = [name for name in FILES if name != layout.SUMS]


@pytest.mark.parametrize("name", RELEASED)
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
    path = folder / data.draw(st.sampled_from(RELEASED))
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
    (folder / layout.WEIGHTS).write_bytes(pickle.dumps(Bomb()))
    sign(folder)
    with pytest.raises(ReleaseError, match="is a pickle"):
        read_release(folder)
    torch.save({"seed.weight": torch.zeros(1)}, folder / layout.WEIGHTS)
    sign(folder)
    with pytest.raises(ReleaseError, match="is a pickle"):
        read_release(folder)
    (folder / layout.WEIGHTS).rename(folder / "models" / "weights.pt")
    with pytest.raises(ReleaseError, match=r"models/weights\.pt may be a pickle"):
        read_release(folder)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_are_no_safetensors(tmp_path):
    write(tmp_path / "release")
    (tmp_path / "release" / layout.WEIGHTS).write_bytes(b"not weights")
    sign(tmp_path / "release")
    with pytest.raises(ReleaseError, match="is not safetensors"):
        read_release(tmp_path / "release")


def test_a_header_as_long_as_a_pickle_s_first_byte_is_read(tmp_path):
    # The first byte of safetensors is the length of its header, which may look like a pickle's mark.
    write(tmp_path / "release")
    path = tmp_path / "release" / layout.WEIGHTS
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    longer = length + (0x80 - length) % 256
    header = data[8 : 8 + length].ljust(longer)
    path.write_bytes(longer.to_bytes(8, "little") + header + data[8 + length :])
    sign(tmp_path / "release")
    assert path.read_bytes()[:1] == b"\x80"
    assert read_release(tmp_path / "release").arrays.keys() == arrays_of(build_generator(study_of())).keys()


@pytest.mark.parametrize("found", [2, 4, "3", None])
def test_another_format_says_both_versions(tmp_path, found):
    write(tmp_path / "release")
    edit_sheet(tmp_path / "release", format=found)
    with pytest.raises(ReleaseError, match=f"format {found!r}, this Willis reads 3"):
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


def test_digests_must_be_of_all_files(tmp_path):
    sums = tmp_path / "release" / "SHA256SUMS"
    write(tmp_path / "release")
    sums.write_text("\n".join([*sums.read_text().splitlines()[:2], ""]))
    with pytest.raises(ReleaseError, match="must hold a digest"):
        read_release(tmp_path / "release")


def test_a_study_that_is_not_the_one_of_the_digest(tmp_path):
    write(tmp_path / "release")
    edit_sheet(tmp_path / "release", study_digest="0" * 64)
    with pytest.raises(ReleaseError, match="study_digest is 000000000000"):
        read_release(tmp_path / "release")


def test_weights_of_another_generator_are_not_read(tmp_path):
    write(tmp_path / "release")
    other = study_of(generator_width=16)
    edit_sheet(tmp_path / "release", study=other.model_dump(mode="json"), study_digest=other.digest())
    with pytest.raises(ReleaseError, match="do not fit the dp-wgan generator"):
        read_release(tmp_path / "release")
