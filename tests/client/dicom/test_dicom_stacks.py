"""Stacks on made-up instances: every one is accounted for, order does not matter, sentences hold no text."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from harness.made_dicom import series
from harness.made_scan import Scanned
from hypothesis import given, settings
from hypothesis import strategies as st

from willis.client.ingest.dicom.instance import Instance
from willis.client.ingest.dicom.lattice import Flaw, Lattice, Plane, arrange
from willis.client.ingest.dicom.stacks import Refusal, Stack, stacks

AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
ONE = Instance(
    file="f", subject="p-1", study="s", series="e", uid="u", frame_of_reference="r", kind="mr", modality="MR",
    series_number=3, instance_number=1, acquisition_number=1, study_day=20000, born="", rows=20, columns=24,
    frames=1,
    position=(0.0, 0.0, 0.0), orientation=AXIAL, spacing=(0.5, 0.4), thickness=0.7, echo_time=7.0, temporal=0,
    b_value=None, phase="M", syntax="1.2.840.10008.1.2.1", pixels="", matches=3, sequence=("GR",), faults=(),
    references=(),
)  # fmt: skip


def line(n: int = 10, **changes) -> list[Instance]:
    """Return n slices, 0.7 mm apart, each with its own pixels."""
    return [
        replace(ONE, file=f"f{k}", uid=f"u{k}", position=(0.0, 0.0, 0.7 * k), pixels=f"x{k}", **changes)
        for k in range(n)
    ]


def test_a_clean_series_is_one_stack_in_order():
    members = line()
    (one,) = stacks(members[::-1], least_slices=8)
    assert isinstance(one, Stack)
    assert one.instances == tuple(members)
    assert one.name == "p-1/study-1/series-3"
    assert (one.shape, one.matches, one.sequence, one.modality) == ((24, 20, 10), 3, ("GR",), "MR")
    assert one.spacing_mm == pytest.approx((0.4, 0.5, 0.7))


def test_a_pattern_must_fit_every_slice():
    members = line()
    members[4] = replace(members[4], matches=2)
    (one,) = stacks(members, least_slices=8)
    assert isinstance(one, Stack)
    assert one.matches == 2


def test_pixels_are_asked_for_only_where_two_share_a_place():
    asked = []

    def digest(one: Instance) -> str:
        asked.append(one.file)
        return "same"

    members = [replace(one, pixels="") for one in line()]
    again = replace(members[4], file="again", uid="other")
    (one,) = stacks([*members, again], least_slices=8, digest=digest)
    assert sorted(asked) == ["again", "f4"]
    assert (one.duplicates, len(one.instances)) == (1, 10)


def test_pixels_that_cannot_be_read_are_never_equal():
    members = [replace(one, pixels="") for one in line()]
    again = replace(members[4], file="again", uid="other")
    (one,) = stacks([*members, again], least_slices=8, digest=lambda one: "")
    assert isinstance(one, Refusal)
    assert one.code == "two-images-a-place"


def test_a_copy_of_a_copy_is_counted():
    members = line()
    first = replace(members[4], file="a", uid="other")
    (one,) = stacks(
        [*members, first, replace(first, file="b"), replace(members[4], file="c")], least_slices=8
    )
    assert isinstance(one, Stack)
    assert one.duplicates == 3


def test_a_series_that_the_export_holds_under_two_patients():
    (one,) = stacks(line(), least_slices=8, shared={"e"})
    assert isinstance(one, Refusal)
    assert one.code == "two-patients"


def test_birth_dates_that_conflict_between_studies_refuse_both():
    later = [replace(one, file=f"l{one.file}", study="t", series="g", born="b2") for one in line()]
    found = stacks([*line(born="b1"), *later], least_slices=8)
    assert [(one.name, getattr(one, "code", None)) for one in found] == [
        ("p-1/study-1/series-3", "conflicting-births"),
        ("p-1/study-2/series-3", "conflicting-births"),
    ]


def test_a_birth_date_told_only_once_is_no_conflict():
    members = line()
    members[0] = replace(members[0], born="b1")
    assert isinstance(stacks(members, least_slices=8)[0], Stack)


def test_one_faulty_slice_refuses_its_series_but_no_other():
    members = line()
    members[9] = replace(members[9], faults=("identity-PatientName",))
    other = [
        replace(one, file=f"o{one.file}", series="g", uid=f"o{one.uid}", series_number=4) for one in line()
    ]
    found = {one.name: one for one in stacks([*members, *other], least_slices=8)}
    refused = found["p-1/study-1/series-3"]
    assert isinstance(refused, Refusal)
    assert refused.code == "identity-PatientName"
    assert isinstance(found["p-1/study-1/series-4"], Stack)


@pytest.mark.parametrize("least", [-1, 0, 1, 2])
def test_a_stack_has_at_least_two_slices(least):
    assert isinstance(stacks(line(1), least_slices=least)[0], Refusal)
    assert isinstance(stacks(line(2), least_slices=least)[0], Stack)


def test_rounded_positions_are_even():
    # Two decimals, as some scanners write: steps of 0.7 +- 0.01 mm stay within 5 %.
    members = [replace(one, position=(0.0, 0.0, round(0.7037 * k, 2))) for k, one in enumerate(line(100))]
    assert isinstance(stacks(members, least_slices=8)[0], Stack)


def test_nothing_gives_nothing():
    assert stacks([], least_slices=8) == []


NUMBERS = st.sampled_from([0.0, 0.7, 1.4, 2.1, 2.8, 3.5, 50.0, -1e9, float("nan"), float("inf")])


@st.composite
def instances(draw: st.DrawFn) -> list[Instance]:
    """Draw up to 40 instances from so few values that they meet in every way."""
    pick = st.sampled_from
    n = draw(st.integers(0, 40))
    return [
        replace(
            ONE, file=f"f{k}",
            subject=draw(pick(["p-1", "p-1", "p-1", "p-2", ""])), study=draw(pick(["s", "s", "t"])),
            series=draw(pick(["e", "e", "g"])), uid=draw(pick(["u", f"u{k}", f"u{k}", f"u{k}"])),
            frame_of_reference=draw(pick(["r", "r", "r", "q", ""])), born=draw(pick(["", "", "b", "c"])),
            kind=draw(pick(["mr", "mr", "mr", "ct", "enhanced-mr", "seg", "other"])),
            rows=draw(pick([20, 20, 0, -3, 10**6])), frames=draw(pick([1, 1, 1, 12, -1, 10**9])),
            position=draw(st.none() | st.tuples(NUMBERS, st.just(0.0), NUMBERS)),
            orientation=draw(pick([AXIAL, AXIAL, None, (0.0,) * 6, (float("nan"),) * 6])),
            spacing=draw(pick([(0.5, 0.4), (0.5, 0.4), None, (0.0, -1.0), (float("nan"), 1.0)])),
            echo_time=draw(pick([7.0, 7.0, 9.0, None, float("nan")])), temporal=draw(pick([0, 0, 1])),
            b_value=draw(pick([None, 0.0, 1000.0])), phase=draw(pick(["", "M", "P"])),
            acquisition_number=draw(pick([1, 1, 2])), pixels=draw(pick(["x", f"x{k}", ""])),
            faults=draw(pick([(), (), (), ("lossy",), ("localizer",), ("who-knows",)])),
        )
        for k in range(n)
    ]  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(instances(), st.integers(0, 9), st.randoms(use_true_random=False))
def test_every_instance_is_in_one_place_whatever_the_order(members, least, dice):
    found = stacks(members, least_slices=least)
    held = Counter(one.file for group in found for one in group.instances)
    assert set(held.values()) <= {1}
    assert len(held) + sum(group.duplicates for group in found) == len(members)
    assert len({group.name for group in found}) == len(found)
    shuffled = list(members)
    dice.shuffle(shuffled)
    again = stacks(shuffled, least_slices=least)
    assert [(one.name, [each.file for each in one.instances]) for one in again] == [
        (one.name, [each.file for each in one.instances]) for one in found
    ]
    for group in found:
        if isinstance(group, Stack) and group.kind == "mr":
            heights = np.array([one.position for one in group.instances], dtype=float)[:, 2]
            steps = np.diff(heights)
            assert len(heights) >= max(2, least)
            assert np.abs(steps - steps.mean()).max() <= 0.05 * steps.mean()


@settings(max_examples=150, deadline=None)
@given(st.integers(2, 40), st.integers(0, 2**32 - 1), st.floats(0.05, 20), st.floats(-0.5, 0.5))
def test_planes_of_any_direction_are_arranged_or_refused(n, seed, step, sideways):
    dice = np.random.default_rng(seed)
    turn = np.linalg.qr(dice.normal(size=(3, 3)))[0]
    row, column = turn[0], turn[1]
    normal = np.cross(row, column)
    order = dice.permutation(n)
    origin = dice.uniform(-200, 200, 3)
    places = [origin + k * (step * normal + sideways * row) for k in order]
    planes = [Plane(tuple(place), (*row, *column), (0.5, 0.4)) for place in places]
    found = arrange(planes)
    if abs(sideways) * (n - 1) > 0.05 * 0.4 + 1e-6:
        assert isinstance(found, Flaw)
        assert found.code == "sheared"
        return
    if abs(sideways) * (n - 1) < 0.05 * 0.4 - 1e-6:
        assert isinstance(found, Lattice)
        assert [order[k] for k in found.order] == list(range(n))
        assert found.step_mm == pytest.approx(step)
        for k in range(n):
            away = found.affine @ [3, 5, k, 1] - [
                *(origin + k * step * normal + 3 * 0.4 * row + 5 * 0.5 * column),
                1,
            ]
            assert np.abs(away).max() < 0.05


def test_many_directions_take_no_longer_than_a_sort():
    # 20,000 radial slices, each with a direction of its own: grouped, not compared pair by pair.
    members = [
        replace(ONE, file=f"f{k}", uid=f"u{k}", orientation=(1.0, k * 1e-3, 0.0, 0.0, 1.0, 0.0))
        for k in range(20_000)
    ]
    found = stacks(members, least_slices=8)
    assert len(found) == 20_000
    assert {getattr(one, "code", "") for one in found} == {"too-few-slices"}


def test_the_real_export_is_three_stacks(real_data):
    found = Scanned(real_data / "dicom_export_aera15T", deid="require").found()
    assert all(isinstance(one, Stack) for one in found)
    spacings = {one.name.rpartition("/")[2]: one.spacing_mm for one in found if isinstance(one, Stack)}
    assert spacings["series-7"] == pytest.approx((0.390625, 0.390625, 0.70), abs=1e-3)
    assert {name: len(one.instances) for name, one in zip(spacings, found, strict=True)} == {
        "series-6": 18, "series-7": 22, "series-10": 18,
    }  # fmt: skip


def test_a_made_series_has_the_frame_and_subject_of_its_files(tmp_path):
    series(tmp_path)
    scanned = Scanned(tmp_path)
    (one,) = scanned.found()
    assert isinstance(one, Stack)
    assert one.subject == scanned.instances[0].subject
    assert one.frame_of_reference == scanned.instances[0].frame_of_reference
