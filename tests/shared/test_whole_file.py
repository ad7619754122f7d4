"""A file is whole or not there, a folder is on the disk, and each fault is told with what to do about it."""

import os
import stat

import pytest

from willis.shared.errors import StateError
from willis.shared.whole_file import check_place, make_folder, write_whole


def test_a_missing_folder_is_named_and_no_disk_is_blamed(tmp_path):
    place = tmp_path / "missing" / "file"
    for use in (lambda: check_place(place), lambda: write_whole(place, b"new")):
        with pytest.raises(StateError, match=f"there is no folder {place.parent}; make it") as error:
            use()
        assert "disk" not in str(error.value)
    check_place(tmp_path / "file")
    (tmp_path / "missing").touch()  # a file is no folder
    with pytest.raises(StateError, match="there is no folder"):
        check_place(place)


@pytest.mark.parametrize(
    ("number", "remedy"), [(28, "free some disk"), (27, "free some disk"), (13, "name another")]
)
def test_only_a_full_disk_is_to_be_freed(tmp_path, monkeypatch, number, remedy):
    def fails(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    (tmp_path / "file").write_bytes(b"old")
    monkeypatch.setattr(os, "replace", fails)
    with pytest.raises(StateError, match=f"{os.strerror(number)}; {remedy}.*, what was there before stands"):
        write_whole(tmp_path / "file", b"new")
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"old"]


def test_a_folder_is_made_with_all_above_it_and_only_it_is_closed_to_others(tmp_path):
    make_folder(tmp_path / "a" / "b" / "c", mode=0o700)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "a/b", "a/b/c")]
    umask = os.umask(0)
    os.umask(umask)
    assert modes == [0o777 & ~umask, 0o777 & ~umask, 0o700]
    make_folder(tmp_path / "a" / "b" / "c")
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="Not a directory"):
        make_folder(tmp_path / "file" / "c")


def test_a_folder_is_made_from_a_relative_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_folder(type(tmp_path)("a/b"))
    assert (tmp_path / "a" / "b").is_dir()


def test_a_private_file_is_its_owners_from_the_first_byte_on(tmp_path, monkeypatch):
    seen = []
    honest = os.replace

    def watched(part, path):
        seen.append(stat.S_IMODE(os.stat(part).st_mode))
        honest(part, path)

    monkeypatch.setattr(os, "replace", watched)
    (tmp_path / "key.part").write_bytes(b"left by a crash")
    (tmp_path / "key.part").chmod(0o644)
    write_whole(tmp_path / "key", b"secret", private=True)
    assert seen == [0o600]
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
