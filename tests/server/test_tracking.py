"""What a run leaves for TensorBoard: read back by TensorBoard's own reader, after a crash too."""

from pathlib import Path

import pytest
from harness.made_report import record_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from willis.server.checkpoint import RoundRecord, add_metrics
from willis.server.tracking import begin_events, scalars_of
from willis.shared.errors import StateError

NOON = 1_790_000_000.0


def timed(number: int, **changes) -> RoundRecord:
    return record_of(number, ended=NOON + number, **changes)


def read_back(run: Path) -> EventAccumulator:
    return EventAccumulator(str(run / "tensorboard")).Reload()


def lived(run: Path, *records: RoundRecord) -> None:
    """Tell rounds as the round loop does."""
    events = begin_events(run)
    for record in records:
        add_metrics(run / "metrics.jsonl", record)
        events.add(record)


def test_tensorboard_reads_every_number_of_every_round(tmp_path):
    lived(tmp_path, timed(1), timed(2, refused={"south": "budget"}, strangers={"other-name": 2}), timed(3))
    found = read_back(tmp_path)
    assert set(found.Tags()["scalars"]) == {one.tag for one in scalars_of(timed(1))}
    north = found.Scalars("epsilon/north")
    assert [one.step for one in north] == [1, 2, 3]
    assert [one.value for one in north] == pytest.approx([1.11, 2.22, 3.33])
    assert [one.wall_time for one in north] == [NOON + 1, NOON + 2, NOON + 3]
    assert [one.value for one in found.Scalars("round/refused")] == [0, 1, 0]
    assert [one.value for one in found.Scalars("round/strangers")] == [0, 2, 0]
    assert found.Scalars("norm/north")[1].value == pytest.approx(2 * 1.2345678)


def test_an_epsilon_is_told_with_delta_unit_and_relation(tmp_path):
    lived(tmp_path, timed(1))
    told = read_back(tmp_path).SummaryMetadata("epsilon/south").summary_description
    assert told == "spent so far at delta 0.0001, unit subject, neighbours add-or-remove-one"


@pytest.mark.parametrize("cut", [1, 7, 200])
def test_a_torn_file_is_made_whole_without_a_round_twice_or_a_gap(tmp_path, cut):
    lived(tmp_path, timed(1), timed(2))
    (path,) = (tmp_path / "tensorboard").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    add_metrics(tmp_path / "metrics.jsonl", timed(3))  # killed before its event was written
    lived(tmp_path, timed(4))
    assert [one.step for one in read_back(tmp_path).Scalars("round/seconds")] == [1, 2, 3, 4]
    assert path.read_bytes()[: len(whole)] == whole


def test_a_file_that_stands_where_the_run_does_is_left_alone(tmp_path):
    lived(tmp_path, timed(1))
    (path,) = (tmp_path / "tensorboard").iterdir()
    before = path.stat().st_ino
    begin_events(tmp_path)
    assert path.stat().st_ino == before


def test_records_of_earlier_versions_have_no_time_of_day(tmp_path):
    lived(tmp_path, record_of(1))
    assert read_back(tmp_path).Scalars("round/seconds")[0].wall_time == 0.0


def test_a_file_that_cannot_be_written_is_refused(tmp_path):
    events = begin_events(tmp_path)
    events.path.unlink()
    events.path.mkdir()
    with pytest.raises(StateError, match=r"cannot write .*tfevents.*free some disk"):
        events.add(timed(1))
