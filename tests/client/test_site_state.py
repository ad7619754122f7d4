"""A site's memory between rounds: whole or not at all, whatever the disk does."""

import os
import resource
from contextlib import contextmanager

import pytest
import torch

from willis.client.site_state import SiteMemory, SiteState
from willis.shared.errors import StateError


@contextmanager
def files_of_at_most(size: int):
    """A disk with no room: the kernel refuses to let any file grow further."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


def a_state(number: int, size: int = 10) -> SiteState:
    return SiteState(number, "0" * 64, number, "", {"critic": {"w": torch.ones(size)}}, {"w": torch.zeros(3)})


@pytest.mark.parametrize("room", [0, 4096, 300_000])
def test_a_full_disk_leaves_the_earlier_state_and_no_half_file(tmp_path, room):
    memory = SiteMemory(tmp_path)
    memory.keep(a_state(1))
    with files_of_at_most(room), pytest.raises(StateError, match="File too large; free some disk"):
        memory.keep(a_state(2, size=200_000))
    assert [path.name for path in tmp_path.iterdir()] == ["round-000001.pt"]
    assert memory.at(1) is not None
    assert memory.at(2) is None


def test_a_folder_that_cannot_be_used_is_a_state_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StateError, match="cannot make the site's folder"):
        SiteMemory(tmp_path / "file")
    memory = SiteMemory(tmp_path / "run")
    (tmp_path / "run" / "lock").mkdir()
    with pytest.raises(StateError, match="cannot write the site's folder"), memory.alone():
        pytest.fail("the run was held without a lock")


def test_every_folder_that_was_made_is_on_the_disk_before_a_round_is(tmp_path, monkeypatch):
    """A loss of power takes away a name that its folder was not asked to keep: the run's, with all in it."""
    kept, fsync = [], os.fsync

    def seen(handle: int) -> None:
        kept.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    monkeypatch.setattr(os, "fsync", seen)
    SiteMemory(tmp_path / "sites" / "north" / "run-1")
    assert kept == [str(tmp_path), str(tmp_path / "sites"), str(tmp_path / "sites" / "north")]
    SiteMemory(tmp_path / "sites" / "north" / "run-2")
    assert kept[3:] == [str(tmp_path / "sites" / "north")]
    SiteMemory(tmp_path / "sites" / "north" / "run-1")
    assert len(kept) == 4
    assert (tmp_path / "sites" / "north" / "run-2").stat().st_mode & 0o777 == 0o700


def test_memory_keeps_two_rounds_and_always_the_one_just_written(tmp_path):
    memory = SiteMemory(tmp_path)
    for number in (4, 5, 6):
        memory.keep(a_state(number))
    assert [memory.at(number) is not None for number in (4, 5, 6)] == [False, True, True]
    memory.keep(a_state(2))  # asked for again by a coordinator that came back from a backup
    assert [memory.at(number) is not None for number in (2, 5, 6)] == [True, False, True]
    assert [memory.last_before(number) for number in (2, 3, 6, 7)] == [0, 2, 2, 6]
