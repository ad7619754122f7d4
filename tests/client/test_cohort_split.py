"""A cohort, and its division by subject."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willis.client.cohort import Cohort, Scan, Subject, split
from willis.shared.errors import CohortError

SCANS = (Scan(None, Path("label.nii")),)
names = st.lists(st.text("abcdefgh0123", min_size=1, max_size=6), unique=True, max_size=30)
shares = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**32 - 1)


def at_one_site(site_names, site="a") -> Cohort:
    return Cohort(tuple(Subject(name, site, SCANS) for name in site_names))


def held(cohort: Cohort, share: float, seed: int) -> set[str]:
    return {subject.name for subject in split(cohort, share, seed=seed)[1].subjects}


@given(names, shares, seeds)
def test_every_subject_is_on_one_side(site_names, share, seed):
    cohort = at_one_site(site_names)
    train, test = split(cohort, share, seed=seed)
    assert len(train) + len(test) == len(cohort)
    assert {s.name for s in train.subjects} | {s.name for s in test.subjects} == set(site_names)
    if len(cohort) >= 2:
        assert len(train) >= 1
        assert len(test) >= 1
        assert abs(len(test) - share * len(cohort)) <= 1
    else:
        assert len(test) == 0


@given(names, names, shares, seeds, st.randoms())
def test_rows_order_and_other_sites_have_no_effect(first, second, share, seed, chance):
    other = [f"x{name}" for name in second]
    shuffled = list(at_one_site(first).subjects + at_one_site(other, "b").subjects)
    chance.shuffle(shuffled)
    both = held(Cohort(tuple(shuffled)), share, seed)
    assert both & set(first) == held(at_one_site(first), share, seed)


@given(names, shares, seeds)
def test_one_more_subject_moves_at_most_one_other(site_names, share, seed):
    before = held(at_one_site(site_names), share, seed)
    after = held(at_one_site([*site_names, "newcomer"]), share, seed) - {"newcomer"}
    if len(site_names) >= 2:
        assert len(before ^ after) <= 1


@pytest.mark.parametrize(
    ("n", "share", "expected"),
    [(1, 0.9, 0), (2, 0.01, 1), (2, 0.99, 1), (10, 0.2, 2), (52, 0.2, 10), (5, 0.5, 3)],
)
def test_share_by_hand(n, share, expected):
    # 52 * 0.2 = 10.4 is rounded to 10; 5 * 0.5 = 2.5 up to 3; 2 * 0.99 would leave nobody to train.
    assert len(held(at_one_site(map(str, range(n))), share, 0)) == expected


def test_the_seed_decides_and_a_golden_division_stays():
    cohort = at_one_site(f"p{i}" for i in range(10))
    assert held(cohort, 0.3, 1) != held(cohort, 0.3, 2)
    # From a shell: for i in 0..9: printf "1:p$i" | sha256sum; the three smallest.
    assert held(cohort, 0.3, 1) == {"p2", "p4", "p7"}


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1, float("nan")])
def test_a_share_outside_0_to_1_is_refused(share):
    with pytest.raises(ValueError, match="held_out must lie"):
        split(at_one_site("ab"), share, seed=0)


def test_a_cohort_counts_subjects_and_tells_no_names():
    subjects = (Subject("mayer", "b", SCANS * 3), Subject("huber", "a", SCANS))
    cohort = Cohort(subjects)
    assert len(cohort) == 2
    assert cohort.sites() == ("a", "b")
    assert [s.name for s in cohort.at("b").subjects] == ["mayer"]
    text = repr(cohort) + repr(subjects) + repr(SCANS)
    assert text.startswith("Cohort(2 subjects at 2 sites)")
    assert not any(word in text for word in ("mayer", "huber", "label.nii"))
    with pytest.raises(CohortError, match='no subject is at site "c"'):
        cohort.at("c")
    with pytest.raises(ValueError, match="once"):
        Cohort((*subjects, subjects[0]))
    with pytest.raises(ValueError, match="a scan"):
        Subject("p", "a", ())
    with pytest.raises(CohortError, match="any more"):
        cohort.content_digest()
