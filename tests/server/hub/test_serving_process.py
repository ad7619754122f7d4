"""``willis hub serve`` as the process that a unit starts: asked to stop, killed, asked by fifty at once."""

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from harness.serving_trial import RUN, bytes_of, hub_with_release, kit_of

from willis.server.hub.folder import HubFolder
from willis.server.hub.programs import hub_environment
from willis.server.hub.serving_check import check_serving
from willis.shared.collection.door import HubDoor, Patience
from willis.shared.collection.fetching import fetch_release
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.errors import Unreachable
from willis.shared.processes import end_family, script
from willis.shared.release import read_release

pytestmark = [pytest.mark.federation, pytest.mark.timeout(600)]
Begin = Callable[[], "subprocess.Popen[bytes]"]

CLIENTS, COLLECTORS, PAIRS = 50, 10, 400
FLAT_MIB = 48.0


@pytest.fixture
def own_hub(tmp_path: Path) -> HubFolder:
    limits = {"streams": 8, "streams_a_collector": 2, "calls_a_minute": 100_000}
    return hub_with_release(tmp_path, noise_bytes=24 << 20, **limits)


@pytest.fixture
def begin(own_hub: HubFolder) -> Iterator[Begin]:
    """Return what starts the command and waits until it serves; it ends with the test."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> "subprocess.Popen[bytes]":
        process = subprocess.Popen(
            [sys.executable, script("willis"), "hub", "serve", str(own_hub.path)],
            env=hub_environment(own_hub) | {"OMP_NUM_THREADS": "1"},
            start_new_session=True,
        )
        started.append(process)
        until = time.monotonic() + 90
        while True:
            try:
                check_serving(own_hub)
            except Unreachable:
                assert process.poll() is None
                assert time.monotonic() < until
                time.sleep(0.3)
            else:
                return process

    yield start
    for process in started:
        end_family(process)


def willis(*words: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run([script("willis"), *words], capture_output=True, text=True, timeout=120)


def test_asked_to_stop_it_ends_well_and_only_one_serves_a_hub(own_hub: HubFolder, begin: Begin) -> None:
    process = begin()
    assert willis("hub", "serve", str(own_hub.path), "--check").returncode == 0
    second = willis("hub", "serve", str(own_hub.path))
    assert (second.returncode, "is served already" in second.stderr) == (2, True)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    gone = willis("hub", "serve", str(own_hub.path), "--check")
    assert (gone.returncode, "nobody serves" in gone.stderr) == (3, True)


def test_killed_in_a_fetch_and_started_again(own_hub: HubFolder, begin: Begin, tmp_path: Path) -> None:
    process, again = begin(), []

    def kill(done: int, total: int) -> None:
        if done > total // 3 and not again:
            process.kill()
            process.wait(30)
            again.append(begin())

    with HubDoor(kit_of(own_hub), patience=Patience(attempts=20)) as door:
        fetch_release(door, RUN, out=tmp_path / "got", progress=kill)
    assert len(again) == 1
    assert bytes_of(tmp_path / "got") == bytes_of(own_hub.runs / RUN / "release")


@pytest.mark.slow
def test_fifty_at_once_draw_within_their_limits_in_flat_memory(own_hub: HubFolder, begin: Begin) -> None:
    """Flat: at no time more than 48 MiB above what it was after the first collector's draw."""
    kits = [kit_of(own_hub, f"lab-{number}") for number in range(COLLECTORS)]
    process = begin()
    waited = [0]

    def wait(seconds: float) -> None:
        waited[0] += 1
        time.sleep(seconds)

    def draw(number: int) -> np.ndarray:
        with HubDoor(kits[number % COLLECTORS], patience=Patience(attempts=6, busy_s=300), wait=wait) as door:
            pairs = RemotePairs(door, RUN, n=PAIRS, seed=number, batch=64)
            return np.concatenate([images for images, _ in pairs])

    draw(0)
    before, seen, done = memory_mib(process.pid), [], threading.Event()

    def look() -> None:
        while not done.wait(0.05):
            seen.append(memory_mib(process.pid))

    watcher = threading.Thread(target=look)
    watcher.start()
    began = time.monotonic()
    try:
        with ThreadPoolExecutor(CLIENTS) as pool:
            came = list(pool.map(draw, range(CLIENTS)))
    finally:
        done.set()
        watcher.join()
    took = time.monotonic() - began
    print(
        f"{CLIENTS * PAIRS / took:.0f} pairs a second, {waited[0]} waits, MiB {before:.0f} to {max(seen):.0f}"
    )
    assert waited[0] > 0  # some were told to come again
    assert max(seen) - before < FLAT_MIB
    sampler = read_release(own_hub.runs / RUN / "release").sampler()
    for number in (0, 17, CLIENTS - 1):
        wanted = sampler.draw(first=0, n=PAIRS, seed=number).numpy()[:, :-1]
        np.testing.assert_allclose(came[number], wanted, atol=1e-6)


def memory_mib(pid: int) -> float:
    """Return the resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
