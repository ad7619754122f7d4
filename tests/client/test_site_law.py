"""The site's own law: what it forbids is refused before anything is paid."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from willis.client import training
from willis.client.adversaries import Adversaries
from willis.client.cohort import read_cohort
from willis.client.site import SiteSettings, read_site
from willis.client.store import build_store
from willis.client.training import open_ledger, train_round
from willis.shared.errors import SiteRefused, StateError, StudyError
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.secure_sum.identity import NodeKey
from willis.shared.study import Study
from willis.shared.update import RoundOrder


@pytest.fixture
def site(tmp_path, phantom_cohort):
    """Make a site of six subjects."""
    table = phantom_cohort(subjects=6, sites=("site-a",), side=20)

    def make(study: Study, **law) -> SiteSettings:
        build_store(read_cohort(table), study.patch, tmp_path / "a" / "patches", seed=study.seed)
        known = {"epsilon_cap": study.privacy.epsilon, "delta": study.privacy.delta, "threads": 1}
        return SiteSettings(name="site-a", cohort=table, state=tmp_path / "a", **(known | law))

    return make


def an_order(study: Study) -> RoundOrder:
    return RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=study.digest(),
        run="run-1",
        round=1,
        arrays=arrays_of(initial_generator(study)),
    )


@pytest.mark.parametrize(
    ("changes", "law", "told"),
    [
        ({"privacy": {"unit": "patch"}}, {}, "the study's unit is patch, the site's is subject"),
        ({}, {"minimum_subjects": 8}, "has 6 subjects, at least 8 are needed"),
        ({}, {"epsilon_cap": 7.9}, "privacy.epsilon is 8, the site allows at most 7.9"),
        ({}, {"delta": 1e-4}, "privacy.delta is 0.001, the site allows at most 0.0001"),
        ({}, {"max_update_norm": 50.0}, "federation.update_norm is 100, the site allows at most 50"),
        ({}, {"studies": ("0" * 64,)}, "not among those that the site agreed to"),
        ({}, {"name": "site-x"}, 'the study names no site "site-x"; it knows site-a, site-b'),
    ],
)
def test_what_the_sites_law_forbids_is_refused_before_anything_is_paid(site, tiny_study, changes, law, told):
    study = tiny_study(**changes)
    settings = site(study, **{key: value for key, value in law.items() if key != "name"})
    settings = settings.model_copy(update={"name": law.get("name", "site-a")})
    with pytest.raises(SiteRefused, match=told):
        train_round(an_order(study), settings)
    assert not settings.ledger.exists()


def test_patches_cut_to_another_specification_are_refused(site, tiny_study):
    settings = site(tiny_study())
    other = tiny_study(patch={"percentiles": [1, 99]})
    with pytest.raises(SiteRefused, match="cut to another specification"):
        train_round(an_order(other), settings)
    assert not settings.ledger.exists()


@pytest.mark.parametrize("spoil", ["name", "shape", "nan"])
def test_weights_that_do_not_fit_are_refused_before_anything_is_paid(site, tiny_study, spoil):
    study = tiny_study()
    settings, order = site(study), an_order(study)
    arrays = dict(order.arrays)
    if spoil == "name":
        arrays["seed.other"] = arrays.pop("seed.bias")
    else:
        arrays["seed.bias"] = np.full_like(arrays["seed.bias"], np.nan)[: None if spoil == "nan" else -1]
    with pytest.raises(StudyError, match="do not fit the study's generator"):
        train_round(replace(order, arrays=arrays), settings)
    with open_ledger(settings, study) as ledger:
        assert ledger.rows() == []


def test_no_store_no_training(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    (settings.store / "index.json").unlink()
    with pytest.raises(StateError, match="holds no complete patch store"):
        train_round(an_order(study), settings)


def test_site_toml_is_read_with_paths_from_its_own_folder(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('name = "a"\ncohort = "in/cohort.csv"\nstate = "."\nepsilon_cap = 3\ndelta = 1e-3\n')
    settings = read_site(path)
    assert settings.cohort == tmp_path / "in" / "cohort.csv"
    assert settings.ledger == tmp_path / "ledger.sqlite"


def test_every_fault_of_a_site_toml_is_told_at_once(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text('name = "A B"\ncohort = "c.csv"\nstate = "."\nepsilon_cap = nan\ndelta = 1\nthread = 2\n')
    with pytest.raises(StateError) as caught:
        read_site(path)
    assert sorted(problem.split(":")[0] for problem in caught.value.problems) == [
        "delta",
        "epsilon_cap",
        "name",
        "thread",
    ]


MORE = {
    "minimum_subjects": 7,
    "sites": [{"name": "site-a", "subjects": 9}, {"name": "site-b", "subjects": 9}],
}


def test_an_agreed_study_meets_the_true_number_of_subjects(site, tiny_study):
    study = tiny_study(federation=MORE)
    with pytest.raises(SiteRefused, match="has 6 subjects, at least 7 are needed"):
        train_round(an_order(study), site(study, studies=(study.digest(),)))


def test_a_study_that_nobody_agreed_to_cannot_count_the_cohort(site, tiny_study):
    """Its minimum meets the public figure alone: 7 of declared 9 is taken although 6 are there."""
    study = tiny_study(federation=MORE)
    assert train_round(an_order(study), site(study)).site == "site-a"


def test_a_ledger_that_was_lost_between_two_rounds_does_not_pay_on(site, tiny_study):
    study = tiny_study()
    settings = site(study)
    first = an_order(study)
    train_round(first, settings)
    for file in settings.ledger.parent.glob("ledger.sqlite*"):
        file.unlink()
    second = RoundOrder(
        study_json=first.study_json,
        study_digest=first.study_digest,
        run=first.run,
        round=2,
        arrays=first.arrays,
    )
    with pytest.raises(StateError, match="lost rows"):
        train_round(second, settings)


def test_cohorts_that_share_patients_can_share_a_ledger(site, tiny_study, tmp_path):
    study = tiny_study()
    settings = site(study).model_copy(update={"ledger_file": tmp_path / "joint.sqlite"})
    train_round(an_order(study), settings)
    assert (tmp_path / "joint.sqlite").exists()
    assert not (settings.state / "ledger.sqlite").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o602])
def test_a_key_that_others_may_open_does_not_sign(site, tiny_study, tmp_path, mode):
    path = tmp_path / "node.pem"
    path.write_bytes(NodeKey.fresh().pem())
    settings = site(tiny_study(), key=path)
    path.chmod(mode)
    with pytest.raises(StateError, match="chmod 600"):
        settings.signer()
    path.chmod(0o600)
    assert settings.signer().sign(b"x")


def test_two_sites_of_one_ledger_and_cohort_never_share_a_payment(site, tiny_study, tmp_path, monkeypatch):
    """Else two answers would carry the same noise, or one payment two noises."""

    class Crash(BaseException):
        pass

    def crash(*_: object, **__: object) -> None:
        raise Crash

    study = tiny_study(training={"rounds": 1})
    one = site(study, epsilon_cap=100.0, ledger_file=tmp_path / "shared.sqlite")
    other = one.model_copy(update={"name": "site-b", "state": tmp_path / "b"})
    build_store(read_cohort(one.cohort), study.patch, other.store, seed=study.seed)
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(Adversaries, "train", crash)
        with pytest.raises(Crash):
            train_round(an_order(study), one)  # paid for, not settled
    train_round(an_order(study), other)
    train_round(an_order(study), one)
    with open_ledger(one, study) as ledger:
        assert len(ledger.rows()) == 2


def test_a_question_that_fails_on_everybody_is_refused_before_it_is_paid(site, tiny_study, monkeypatch):
    class Broken:
        length = 2

        def question(self, order, *, number):
            return self

        def vector(self, patches):
            return torch.zeros(1)

    study = tiny_study(training={"protocol": "pooled", "critic_steps": 1})
    settings = site(study)
    monkeypatch.setattr(training, "recipe_of", lambda _: Broken())
    with pytest.raises(StudyError, match="cannot ask its question"):
        train_round(an_order(study), settings)
    with open_ledger(settings, study) as ledger:
        assert ledger.rows() == []
