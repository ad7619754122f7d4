"""A site whose answers are bad.

``WILLIS_TEST_BAD`` says how, one word a round: ``nan``, ``shape``, ``large``, ``again`` (the answer of the
round before), ``slow``.
"""

import dataclasses
import os
import time
from typing import Any

import numpy as np

MODULE = "willis.client.training"
SLOW_S = 600.0


def tamper(training: Any) -> None:
    how, honest = os.environ["WILLIS_TEST_BAD"].split(), training.train_round
    training.train_round = lambda order, settings: spoilt(how[order.round - 1], honest, order, settings)


def spoilt(how, honest, order, settings):
    """Return the answer that a bad site gives to an order."""
    if how == "slow":
        time.sleep(SLOW_S)
    answer = honest(order, settings)
    arrays = {name: np.array(value) for name, value in answer.arrays.items()}
    first = sorted(arrays)[0]
    if how == "nan":
        arrays[first].flat[0] = np.nan
    elif how == "shape":
        arrays[first] = np.zeros((3, *arrays[first].shape), np.float32)
    elif how == "large":
        arrays[first].flat[0] = 100 * 100.0  # the study's bound is 100
    elif how == "again":
        return dataclasses.replace(answer, round=order.round - 1)
    return dataclasses.replace(answer, arrays=arrays)
