"""What a round carries: the relay counts every byte, the plan changes what it says, the floor is a floor."""

import json
import socket
import time

import numpy as np
import pytest
from click.testing import CliRunner

from willis.server.hub.certificates import make_authority, make_server_certificate
from willis.simulations.benchmarks import traffic
from willis.simulations.benchmarks.catalogue import BENCHES, Bench
from willis.simulations.benchmarks.report import Measured
from willis.simulations.benchmarks.traffic_app import numbers
from willis.simulations.benchmarks.traffic_floor import raw_round
from willis.simulations.benchmarks.traffic_relay import Relay, Tally
from willis.simulations.cli import run_bench


def test_a_tally_tells_what_was_carried_between_two_moments():
    tally = Tally()
    before = time.time()
    tally.add(5)
    time.sleep(0.01)
    middle = time.time()
    tally.add(7)
    after = time.time()
    assert tally.between(before, after) == 12
    assert tally.between(before, middle) == 5
    assert tally.between(middle, after) == 7
    assert tally.between(after, after + 1) == 0


def test_the_relay_carries_both_ways_and_counts_every_byte():
    with socket.create_server(("127.0.0.1", 0)) as door, Relay(door.getsockname()[1]) as relay:
        begun = time.time()
        with socket.create_connection(("127.0.0.1", relay.port), timeout=10) as caller:
            line, _ = door.accept()
            with line:
                line.settimeout(10)
                caller.sendall(b"up" * 1000)
                assert _read(line, 2000) == b"up" * 1000
                line.sendall(b"down" * 5000)
                assert _read(caller, 20_000) == b"down" * 5000
        assert relay.up.between(begun, time.time()) == 2000
        assert relay.down.between(begun, time.time()) == 20_000


def test_the_relay_ends_a_connection_to_nobody():
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
    with (
        Relay(port) as relay,
        socket.create_connection(("127.0.0.1", relay.port), timeout=10) as caller,
    ):
        assert caller.recv(1) == b""


def test_the_relay_ends_what_is_open_when_it_ends(caplog):
    with socket.create_server(("127.0.0.1", 0)) as door:
        with Relay(door.getsockname()[1]) as relay:
            caller = socket.create_connection(("127.0.0.1", relay.port), timeout=10)
            line, _ = door.accept()
            line.settimeout(10)
            caller.sendall(b"up")
            assert _read(line, 2) == b"up"
        with caller, line:
            assert caller.recv(1) == line.recv(1) == b""
    assert not caplog.records


def test_the_floor_is_the_payload_and_little_more(tmp_path):
    authority = (tmp_path / "ca.key", tmp_path / "ca.crt")
    make_authority(*authority, host="localhost")
    make_server_certificate(authority, (tmp_path / "s.key", tmp_path / "s.crt"), host="localhost")
    carried = raw_round(
        sites=2,
        down=3_000_000,
        up=1_500_000,
        certificate=(tmp_path / "s.crt", tmp_path / "s.key"),
        authority=authority[1],
    )
    assert 6_000_000 < carried.down < 6_000_000 * 1.01
    assert 3_000_000 < carried.up < 3_000_000 * 1.01
    assert carried.seconds > 0


def test_the_same_seed_is_the_same_model_and_another_is_another():
    one, same, other = (numbers(1003, [seed]) for seed in (1, 1, 2))
    assert sum(value.size for value in one.values()) == 1003
    assert all(value.dtype == np.float32 for value in one.values())
    assert all(np.array_equal(value, same[name]) for name, value in one.items())
    assert not any(np.array_equal(value, other[name]) for name, value in one.items())


def test_only_a_round_as_before_keeps_its_seed(tmp_path):
    kinds = ("changed", "as before", "held", "zeros", "changed")
    plan = traffic._plan([traffic.Kind(10, "float32", arrays) for arrays in kinds], tmp_path)
    assert [asked["seed"] for asked in plan] == [1, 1, 1, 2, 3]
    assert [asked["answer_seed"] for asked in plan] == [1, 1, 2, 3, 4]
    assert [asked["zeros"] for asked in plan] == [False, False, False, True, False]
    assert [(asked["hold"], asked["held"]) for asked in plan[1:3]] == [(True, False), (False, True)]


def test_the_command_writes_what_was_measured(tmp_path, monkeypatch):
    found = Measured("traffic", "how", ("parameters", "way"), [[10, "Flower"]])
    asked = []

    def measure(quick: bool) -> Measured:
        asked.append(quick)
        return found

    monkeypatch.setitem(BENCHES, "traffic", Bench("", measure))
    result = CliRunner().invoke(run_bench, ["traffic", "--quick", "--out", str(tmp_path)])
    assert result.exit_code == 0, result.output
    assert "| 10 | Flower |" in result.output
    assert json.loads((tmp_path / "traffic.json").read_text())["rows"] == [[10, "Flower"]]
    assert asked == [True]


@pytest.mark.federation
@pytest.mark.timeout(600)
def test_half_precision_halves_what_leaves_a_site(monkeypatch):
    monkeypatch.setattr(traffic, "_QUICK", ((200_000,), 1))
    result = traffic.run(quick=True)
    up = {tuple(row[1:4]): row[4] for row in result.rows}
    payload = 2 * 200_000 * 4 / 1e6
    full, half = up["float32", "changed", "Flower"], up["float16", "changed", "Flower"]
    assert payload < up["float32", "changed", "bare TLS"] < full < 1.3 * payload + 0.2
    assert half < 0.75 * full
    assert up["float32", "zeros", "Flower"] < 0.5 * full, "equal arrays travel once"
    down = {tuple(row[1:4]): row[5] for row in result.rows}
    assert down["float32", "changed", "Flower"] > payload
    assert down["float32", "held", "Flower"] < 0.2, "unchanged arrays cost nothing"
    assert up["float16", "changed", "bare TLS"] == pytest.approx(payload / 2, rel=0.02)


def _read(line: socket.socket, size: int) -> bytes:
    whole = b""
    while len(whole) < size:
        part = line.recv(size - len(whole))
        assert part, "the line ended early"
        whole += part
    return whole
