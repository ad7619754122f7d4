"""A study that goes wrong is refused whole: every fault at once, with the path of its key and its value."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willis.shared.errors import StudyError
from willis.shared.settings import parse
from willis.shared.study import Study, parse_study, read_study

STUDIES = sorted((Path(__file__).parents[2] / "simulations" / "studies").glob("*.toml"))


def refused(tiny_study, **changes) -> tuple[str, ...]:
    with pytest.raises(StudyError) as caught:
        tiny_study(**changes)
    return caught.value.problems


def test_every_fault_is_told_at_once_with_the_path_of_its_key(tiny_study):
    problems = refused(
        tiny_study,
        seed="seven",
        colour="blue",
        patch={"size": [16, 16, 16, 16], "percentiles": [99, 1]},
        privacy={"epsilon": math.nan, "clip_norm": -2.0, "sampling_rate": 1.5, "unit": "person"},
        training={"rounds": 0, "optimiser": "sgd", "fakes": 1.5},
        federation={
            "sites": [{"name": "Site A", "subjects": 0, "wieght": 2}, {"name": "site-b", "subjects": 6}]
        },
    )
    wanted = {
        "seed": "'seven'",
        "colour": "unknown key, got 'blue'",
        "patch.size": "3",
        "privacy.epsilon": "nan",
        "privacy.clip_norm": "-2.0",
        "privacy.sampling_rate": "1.5",
        "privacy.unit": "'person'",
        "training.rounds": "0",
        "training.optimiser": "'sgd'",
        "training.fakes": "1.5",
        "federation.sites.0.name": "'Site A'",
        "federation.sites.0.subjects": "0",
        "federation.sites.0.wieght": "unknown key, got 2",
    }
    told = dict(problem.split(": ", 1) for problem in problems)
    assert set(told) == set(wanted)
    for key, value in wanted.items():
        assert value in told[key], key


@pytest.mark.parametrize("channels", [["red", "red"], ["red", "green", "red"], ["red", "red", "red"]])
def test_a_channel_named_twice_is_refused_where_it_is_written(tiny_study, channels):
    problems = refused(tiny_study, patch={"channels": channels})
    assert problems == ("patch: channels names red twice; name every channel once",)
    assert tiny_study(patch={"channels": ["green", "red", "blue"]}).patch.n_channels == 4


def test_sites_that_are_all_refused_are_not_also_called_too_few(tiny_study):
    with pytest.raises(StudyError) as caught:
        tiny_study(federation={"sites": [{"name": "site-a", "subjects": 0}]})
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("federation.sites.0.subjects: ")


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("privacy", "epsilon", 0),
        ("privacy", "epsilon", -1.0),
        ("privacy", "epsilon", math.inf),
        ("privacy", "delta", 0),
        ("privacy", "delta", 1),
        ("privacy", "clip_norm", math.nan),
        ("privacy", "clip_norm", 0),
        ("privacy", "sampling_rate", 0),
        ("privacy", "sampling_rate", 1.01),
        ("privacy", "unit", "site"),
        ("privacy", "fake_centred", "perhaps"),
        ("training", "rounds", -3),
        ("training", "critic_steps", 0),
        ("training", "ema", 1),
        ("training", "precision", "float8"),
        ("training", "device", "tpu"),
        ("federation", "quorum", 0),
        ("federation", "deadline_s", 0),
        ("federation", "update_norm", math.nan),
        ("networks", "spectral_bound", 0),
        ("use", "held_out", 1),
    ],
)
def test_an_impossible_value_is_refused_with_its_key_and_value(tiny_study, section, key, value):
    problems = refused(tiny_study, **{section: {key: value}})
    assert any(p.startswith(f"{section}.{key}: ") and p.endswith(f"got {value!r}") for p in problems), (
        problems
    )


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"privacy": {"delta": 0.2}}, "below 1 / units = 0.166667 at the largest site, got 0.2"),
        ({"privacy": {"delta": 1 / 6}}, "below 1 / units"),
        # Per patch there are 6 x 4 units at a site.
        ({"privacy": {"delta": 0.05, "unit": "patch"}}, "below 1 / units = 0.0416667"),
        (
            {"patch": {"size": [16, 18]}},
            r"multiples of 2 ** networks.depth = 4, and at least twice it, got (16, 18)",
        ),
        ({"networks": {"depth": 4}}, "at least twice it"),
        ({"patch": {"size": [4, 16]}}, "size must be 8 to 512 pixels along each axis, got (4, 16)"),
        ({"patch": {"spacing_mm": [1.0]}}, "spacing_mm needs 2 numbers, got (1.0,)"),
        ({"patch": {"spacing_mm": [1.0, 0.0]}}, "spacing_mm must be positive, got (1.0, 0.0)"),
        ({"patch": {"percentiles": [50, 50]}}, "percentiles must rise within 0 to 100, got (50.0, 50.0)"),
        ({"training": {"patches_per_bag": 5}}, "at most patch.per_subject (4), got 5"),
        ({"training": {"critic_per_generator": 3}}, "at most critic_steps (2), got 3"),
        ({"training": {"betas": [0.0, 1.0]}}, "betas must lie in [0, 1), got (0.0, 1.0)"),
        ({"federation": {"quorum": 3}}, "at most the number of sites (2), got 3"),
        ({"federation": {"sites": [{"name": "a", "subjects": 6}] * 2}}, "got twice: a"),
        ({"prior": {"ranges": {"radius": [4, 1]}}}, "radius must not fall, got 4.0 to 1.0"),
        ({"prior": {"ranges": {"colour": [0, 1]}}}, "unknown: colour"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(tiny_study, changes, told):
    assert any(told in problem for problem in refused(tiny_study, **changes))


def test_delta_just_below_one_over_the_subjects_is_taken(tiny_study):
    assert tiny_study(privacy={"delta": 0.1666}).privacy.delta == 0.1666


@pytest.mark.parametrize("section", ["patch", "prior", "privacy", "training", "federation"])
def test_a_missing_section_is_told_by_name(tiny_study, section):
    values = tiny_study().model_dump(mode="json")
    del values[section]
    with pytest.raises(StudyError) as caught:
        parse(values, Study, where="x")
    assert f"{section}: missing, and has no default" in caught.value.problems


def test_a_file_that_is_missing_or_no_toml_or_no_text_is_a_study_error(tmp_path):
    path = tmp_path / "study.toml"
    with pytest.raises(StudyError, match=r"cannot read .*FileNotFoundError"):
        read_study(path)
    path.write_text("name = 'a'\nname = 'b'\n")
    with pytest.raises(StudyError, match="not valid TOML"):
        read_study(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(StudyError, match=r"cannot read .*UnicodeDecodeError"):
        read_study(path)


def test_a_study_that_travelled_is_read_with_the_same_care(tiny_study):
    study = tiny_study()
    assert parse_study(study.model_dump_json(), where="order").digest() == study.digest()
    with pytest.raises(StudyError, match="order is not valid JSON"):
        parse_study("{", where="order")
    with pytest.raises(StudyError, match="order does not fit"):
        parse_study(json.dumps({"name": "x"}), where="order")
    infinite = study.model_dump_json().replace('"epsilon":8.0', '"epsilon":Infinity')
    with pytest.raises(StudyError, match=r"privacy.epsilon"):
        parse_study(infinite, where="order")


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_a_shipped_study_parses(path):
    study = read_study(path)
    assert study.name == path.stem
    assert study.privacy.unit.value == "subject"


def test_six_studies_are_shipped():
    assert [path.stem for path in STUDIES] == ["demo", "gan", "hippocampus", "retina", "tof", "two-hospitals"]


@given(st.randoms(use_true_random=False))
def test_the_digest_does_not_depend_on_the_order_of_keys(random):
    study = read_study(STUDIES[0])

    def shuffled(values):
        if isinstance(values, list):
            return [shuffled(value) for value in values]
        if not isinstance(values, dict):
            return values
        keys = list(values)
        random.shuffle(keys)
        return {key: shuffled(values[key]) for key in keys}

    again = parse(shuffled(study.model_dump(mode="json")), Study, where="x")
    assert again.digest() == study.digest()


def test_the_digest_depends_on_every_value(tiny_study):
    digests = {
        tiny_study(**changes).digest()
        for changes in ({}, {"seed": 2}, {"privacy": {"epsilon": 7.99}}, {"training": {"rounds": 4}})
    }
    assert len(digests) == 4


def test_a_minimum_above_what_a_site_declares_is_refused(tiny_study):
    with pytest.raises(StudyError, match=r"at most what every site declares \(6\), got 7"):
        tiny_study(federation={"minimum_subjects": 7})


@pytest.mark.parametrize("value", ["8", True])
def test_text_or_truth_is_no_number(tiny_study, value):
    with pytest.raises(StudyError, match=r"privacy\.epsilon: must be a number, got"):
        tiny_study(privacy={"epsilon": value})


def test_all_that_does_not_fit_between_keys_is_told_at_once(tiny_study):
    with pytest.raises(StudyError) as caught:
        tiny_study(patch={"size": [18, 16]}, privacy={"delta": 0.5}, training={"patches_per_bag": 9})
    told = caught.value.problems
    assert len(told) == 3
    for problem, key in zip(told, ("patch.size", "privacy.delta", "training.patches_per_bag"), strict=True):
        assert problem.startswith(f"(whole file): {key} must be")


def test_all_that_does_not_fit_between_sites_is_told_at_once(tiny_study):
    twice = [{"name": "site-a", "subjects": 6}, {"name": "site-a", "subjects": 6}]
    with pytest.raises(StudyError) as caught:
        tiny_study(federation={"sites": twice, "quorum": 9})
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["federation", "federation"]


@pytest.mark.parametrize(
    ("quorum", "colluders", "fits"), [(3, 1, True), (2, 0, False), (3, 2, False), (4, 3, True)]
)
def test_a_secure_quorum_is_one_that_cannot_be_split(tiny_study, quorum, colluders, fits):
    sites = [{"name": f"site-{letter}", "subjects": 6} for letter in "abcd"]
    federation = {"sites": sites, "quorum": quorum, "secure": {"colluders": colluders}}
    changes = {"training": {"protocol": "pooled", "critic_steps": 1}, "federation": federation}
    if fits:
        assert tiny_study(**changes).federation.secure.colluders == colluders
    else:
        with pytest.raises(StudyError, match="twice the quorum"):
            tiny_study(**changes)


def test_what_needs_pooled_sums_is_refused_under_local(tiny_study):
    with pytest.raises(StudyError, match=r'must be "pooled" for recipe tuned-prior'):
        tiny_study(recipe={"name": "tuned-prior"})
    with pytest.raises(StudyError, match=r"federation.secure needs"):
        tiny_study(federation={"secure": {"colluders": 0}})
    with pytest.raises(StudyError, match="critic_steps must be 1"):
        tiny_study(training={"protocol": "pooled", "critic_steps": 2})


def test_secure_aggregation_of_one_site_hides_nobody(tiny_study):
    one = {"sites": [{"name": "a", "subjects": 6}], "quorum": 1, "secure": {"colluders": 0}}
    with pytest.raises(StudyError, match="needs 2 sites at least") as error:
        tiny_study(federation=one, training={"protocol": "pooled", "critic_steps": 1})
    assert "2 sites at least, got 1" in str(error.value.problems)


def test_delta_is_held_against_the_largest_site(tiny_study):
    sites = [{"name": "site-a", "subjects": 10}, {"name": "site-b", "subjects": 1000}]
    with pytest.raises(StudyError, match=r"1 / units = 0.001 at the largest site"):
        tiny_study(privacy={"delta": 0.05}, federation={"sites": sites})
