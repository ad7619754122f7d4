"""A study in half precision from end to end: half the bytes leave a site, and the model moves as it would."""

import numpy as np
import pytest

from willis.client import training
from willis.shared.release import read_release
from willis.simulations.run import simulate

PROTOCOLS = [{"rounds": 2}, {"rounds": 2, "protocol": "pooled", "critic_steps": 1}]


@pytest.mark.parametrize("plan", PROTOCOLS, ids=["local", "pooled"])
@pytest.mark.usefixtures("keys_by_round")
def test_a_study_in_half_precision(tmp_path, tiny_study_file, phantom_cohort, monkeypatch, plan):
    types, honest = [], training.train_round

    def watched(*asked):
        answer = honest(*asked)
        types.append({value.dtype.name for value in answer.arrays.values()})
        return answer

    monkeypatch.setattr(training, "train_round", watched)
    table = phantom_cohort(subjects=8)

    def trained(precision: str) -> dict[str, np.ndarray]:
        study = tiny_study_file(training=plan, federation={"precision": precision})
        simulate(study, out=tmp_path / precision, cohort=table, evaluate=False)
        return dict(read_release(tmp_path / precision / "release").arrays)

    full, half = trained("float32"), trained("float16")
    assert types == [{"float32"}] * 4 + [{"float16"}] * 4
    for name, value in full.items():
        np.testing.assert_allclose(half[name], value, rtol=0.02, atol=2e-4, err_msg=name)
    assert any(not np.array_equal(half[name], value) for name, value in full.items())
