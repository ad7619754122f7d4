"""Who opted out is never met by a draw again, and the same noise never meets two cohorts."""

import hashlib
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from willis.client.cohort import read_cohort
from willis.client.ledger import Ledger
from willis.client.node.optout import change
from willis.client.opt_out import opted_out, without, write_opted_out
from willis.client.site import SiteSettings
from willis.client.store import Index, PatchStore, build_store, open_store, subject_mark
from willis.client.training import open_ledger, train_round
from willis.shared.errors import CohortError, SiteRefused, StateError
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.patch import PatchSpec
from willis.shared.update import RoundOrder

SPEC = PatchSpec(size=(8, 8), per_subject=3)
NAMES = [f"p{number}" for number in range(7)]


def a_store() -> PatchStore:
    """Build a store in memory where every value of a subject's patches is the subject's number."""
    values = np.repeat(np.arange(len(NAMES)), SPEC.per_subject).astype(np.float16)
    patches = np.broadcast_to(values[:, None, None, None], (values.size, SPEC.n_channels, 8, 8)).copy()
    key = "0" * 64
    index = Index(
        format=1,
        key=key,
        spec=SPEC,
        spec_digest=SPEC.digest(),
        n_subjects=len(NAMES),
        patches=f"patches-{'0' * 16}.npy",
        subjects=tuple(subject_mark(key, name) for name in NAMES),
    )
    return PatchStore(index, patches)


@given(out=st.sets(st.sampled_from(NAMES), max_size=6), seed=st.integers(0, 2**32 - 1))
def test_no_draw_meets_who_opted_out_and_every_other_subject_can_be_met(out, seed):
    store, rng = without(a_store(), out), np.random.default_rng(seed)
    gone = {NAMES.index(name) for name in out}
    bags = [set(store.bag(place, 2, rng).flatten().tolist()) for place in range(store.n_subjects)]
    met = set().union(*bags)
    assert met == set(range(len(NAMES))) - gone
    assert all(len(bag) == 1 for bag in bags)  # a bag is one subject's
    flat = {store.patch(place, rng).flatten()[0].item() for place in range(store.n_patches)}
    assert flat == met
    assert set(store.sample(50, rng).flatten().tolist()) <= met
    with pytest.raises(ValueError, match="subject_index"):
        store.bag(store.n_subjects, 1, rng)


@given(st.sets(st.sampled_from(NAMES), max_size=6), st.sets(st.sampled_from(NAMES), max_size=6))
def test_two_cohorts_never_have_one_key(one, other):
    keys = [without(a_store(), names).index.key for names in (one, other)]
    assert (keys[0] == keys[1]) == (one == other)


def test_a_name_without_patches_changes_nothing():
    assert without(a_store(), ("nobody",)).index.key == a_store().index.key


def test_a_store_that_does_not_tell_whose_its_patches_are_is_not_drawn_from():
    store = a_store()
    old = PatchStore(store.index.model_copy(update={"subjects": ()}), store._patches)
    with pytest.raises(StateError, match="cut them again"):
        without(old, ("p0",))


@pytest.fixture
def site(tmp_path: Path, phantom_cohort, tiny_study) -> SiteSettings:
    table = phantom_cohort(subjects=6, sites=("site-a",), side=20)
    study = tiny_study()
    build_store(read_cohort(table), study.patch, tmp_path / "a" / "patches", seed=study.seed)
    return SiteSettings(
        name="site-a", cohort=table, state=tmp_path / "a", epsilon_cap=8, delta=1e-3, threads=1
    )


def test_the_stores_files_hold_no_pseudonym(site):
    index = (site.store / "index.json").read_text()
    assert len(open_store(site.store).index.subjects) == 6
    assert '"p0"' not in index
    assert hashlib.sha256(b"p0").hexdigest() not in index


def test_the_list_is_kept_private_and_in_order(site):
    assert change(site, ["p3", "p1"]) == ("p3", "p1")
    assert change(site, ["p1", "p2"]) == ("p3", "p1", "p2")
    assert change(site, ["p3"], undo=True) == ("p1", "p2")
    assert opted_out(site.optout) == ("p1", "p2")
    assert stat.S_IMODE(site.optout.stat().st_mode) == 0o600


def test_unknown_names_are_refused_by_line_and_nothing_changes(site):
    change(site, ["p1"])
    with pytest.raises(CohortError) as caught:
        change(site, ["p2", "P2", "p99"])
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["line 2", "line 3"]
    with pytest.raises(CohortError, match="line 1"):
        change(site, ["p2"], undo=True)
    assert opted_out(site.optout) == ("p1",)


def an_order(study) -> RoundOrder:
    return RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=study.digest(),
        run="run-1",
        round=1,
        arrays=arrays_of(initial_generator(study)),
    )


def test_the_minimum_counts_after_opting_out_and_nothing_is_paid(site, tiny_study):
    site = site.model_copy(update={"minimum_subjects": 5})
    change(site, ["p0", "p4"])
    with pytest.raises(SiteRefused, match="has 4 subjects, at least 5"):
        train_round(an_order(tiny_study()), site)
    assert not site.ledger.exists()


def test_an_opt_out_between_reserving_and_drawing_is_paid_for_anew(site, tiny_study, monkeypatch):
    study, order = tiny_study(), an_order(tiny_study())
    met: list[int] = []
    bag = PatchStore.bag

    def counted(self, place, k, rng):
        met.append(self.n_subjects)
        return bag(self, place, k, rng)

    def killed(self, reservation):
        raise KeyboardInterrupt

    monkeypatch.setattr(PatchStore, "bag", counted)
    with monkeypatch.context() as patched:
        patched.setattr(Ledger, "settle", killed)
        patched.setattr("willis.client.training.SiteMemory.keep", lambda self, state: None)
        with pytest.raises(KeyboardInterrupt):
            train_round(order, site)
    change(site, ["p0"])
    met.clear()
    train_round(order, site)
    assert set(met) == {5}
    with open_ledger(site, study) as ledger:
        rows = ledger.rows()
    assert len(rows) == 2
    assert rows[0].inputs != rows[1].inputs


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=10)
@given(st.lists(st.text(alphabet="abc ÄЖ-1", min_size=1).map(str.strip).filter(bool), unique=True))
def test_the_list_is_read_back_as_written(tmp_path, names):
    write_opted_out(tmp_path / "state" / "optout.txt", names)
    assert opted_out(tmp_path / "state" / "optout.txt") == tuple(names)


def test_two_clerks_at_once_are_both_heard(site):
    names = [subject.name for subject in read_cohort(site.cohort).subjects][:4]
    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(change, site, [name]) for name in names]:
            done.result()
    assert set(opted_out(site.optout)) == set(names)
