"""What the coordinator of a secure sum sees of one site: uniform words, whatever the site holds."""

from typing import Any

import numpy as np
from harness.secure_trial import (
    TERMS,
    UNLIKELY,
    cards_of,
    inboxes_of,
    no_noise,
    site,
)
from scipy import stats

from willis.shared.secure_sum import masks
from willis.shared.secure_sum.fixed_point import FixedPoint
from willis.shared.secure_sum.noise import discrete_gaussian

# What the coordinator sees of one site

LONG = TERMS.model_copy(update={"length": 10_000, "noise_multiplier": 5.0})
SPIKE = np.r_[1.0, np.zeros(9_999)]
FLAT = np.full(10_000, 0.01)  # of norm 1


def views(units: list[np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """What three sites send if a has these units and the others none, and the same without their own masks.

    The own masks fall at the end for every survivor: the coordinator sees the second view too.
    """
    sites = {name: site(name, LONG, discrete_gaussian if name == "a" else no_noise) for name in "abc"}
    inboxes = inboxes_of(sites, cards_of(sites))
    seeds = {name: each._state.seed for name, each in sites.items()}
    sent = {
        name: each.masked(inboxes[name], units if name == "a" else []).vector for name, each in sites.items()
    }
    own = {
        name: masks.self_mask(seed, context=LONG.digest(), length=LONG.length)
        for name, seed in seeds.items()
        if seed
    }
    return sent, {name: words - own[name] for name, words in sent.items()}


def byte_counts(words: np.ndarray) -> np.ndarray:
    """How often each byte value stands at each of the 8 places of a word."""
    places = np.ascontiguousarray(words.astype("<u8")).view(np.uint8).reshape(-1, 8)
    return np.stack([np.bincount(places[:, place], minlength=256) for place in range(8)])


def p_uniform(words: np.ndarray) -> float:
    """Chance of bytes so uneven if all were uniform: Pearson's statistic over places and values."""
    counts = byte_counts(words)
    expected = len(words) / 256
    return float(stats.chi2.sf(((counts - expected) ** 2 / expected).sum(), 8 * 255))


def test_the_view_of_one_site_is_uniform_whatever_it_holds():
    for units in ([SPIKE] * 50, []):
        sent, opened = views(units)
        for view in (sent, opened):
            for name in "abc":
                assert p_uniform(view[name]) > UNLIKELY
            # So is every sum of fewer than all; the sum of all is what is meant to be seen.
            for left_out in "abc":
                assert p_uniform(np.add(*(view[name] for name in "abc" if name != left_out))) > UNLIKELY
        assert p_uniform(opened["a"] + opened["b"] + opened["c"]) < UNLIKELY


def test_two_inputs_give_views_that_are_not_told_apart():
    counts = [byte_counts(views(units)[1]["a"]) for units in ([FLAT] * 100, [-FLAT] * 100)]
    for place in range(8):
        table = np.stack([count[place] for count in counts])
        assert p_same(table) > UNLIKELY / 8
    # The same inputs without masks are told apart at once.
    numbers = FixedPoint.of(LONG)
    bare = [
        numbers.total([unit] * 100) + discrete_gaussian(LONG.length, numbers.share_std)
        for unit in (FLAT, -FLAT)
    ]
    lowest = min(
        p_same(table)
        for place in range(8)
        if (table := _seen(np.stack([byte_counts(words.view(np.uint64))[place] for words in bare]))).shape[1]
        > 1
    )
    assert lowest < UNLIKELY


def p_same(table: np.ndarray) -> float:
    """Chance of two rows of counts so different if both came from one distribution."""
    result: Any = stats.chi2_contingency(table)
    return float(result.pvalue)


def _seen(table: np.ndarray) -> np.ndarray:
    return table[:, table.sum(axis=0) > 0]


def test_the_uniformity_test_sees_one_word_in_twenty_unmasked():
    # Its power: chi-squared of 2040 degrees, 80,000 bytes. A deviation of 9 % (root mean square over byte
    # values) is found more than nine times in ten.
    threshold = stats.chi2.isf(UNLIKELY, 2040)
    assert stats.ncx2.sf(threshold, 2040, 80_000 * 0.09**2) > 0.9
    sent, _ = views([])
    leaky = sent["a"].copy()
    leaky[::20] = discrete_gaussian(500, FixedPoint.of(LONG).share_std).view(np.uint64)
    assert p_uniform(leaky) < UNLIKELY < p_uniform(sent["a"])
