"""The one mechanism, by hand, by property, by chi-squared test, and against Opacus' own optimiser."""

import inspect
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from opacus.optimizers import DPOptimizer
from scipy.stats import chi2, kstest
from torch import Tensor

from willis.client.private_sum import clip_scale, norm, private_sum
from willis.client.randomness import SecretRandom
from willis.client.sampling import draw_units
from willis.shared.networks.build import build_critic

DICE = SecretRandom(bytes([3]) * 32)
UNLIKELY = 1e-6  # keys are fixed: a test that passes once passes always


def summed(
    vectors, *, clip_norm: float = 1.0, noise_multiplier: float = 0.0, like=None, noise=DICE
) -> list[Tensor]:
    like = vectors[0] if like is None else like
    return private_sum(
        vectors, like=like, clip_norm=clip_norm, noise_multiplier=noise_multiplier, noise=noise
    )


def test_clip_by_hand():
    # |(3, 4)| = 5 and the bound is 1, so both are scaled by 1/5 (less the factor's room of 1e-5).
    (total,) = summed([[torch.tensor([3.0, 4.0])]])
    torch.testing.assert_close(total, torch.tensor([0.6, 0.8]), rtol=2e-5, atol=0)


def test_the_norm_is_taken_over_all_tensors_of_a_vector_together():
    # |((1, 2), 2)| = 3, bound 1.5: half of each.
    vector = [torch.tensor([1.0, 2.0]), torch.tensor([[2.0]])]
    assert float(norm(vector)) == pytest.approx(3.0)
    pair, single = summed([vector], clip_norm=1.5)
    torch.testing.assert_close(pair, torch.tensor([0.5, 1.0]), rtol=2e-5, atol=0)
    torch.testing.assert_close(single, torch.tensor([[1.0]]), rtol=2e-5, atol=0)


def test_a_sum_by_hand_clips_each_vector_not_the_sum():
    # (3, 4) becomes (0.6, 0.8); (0, 0.5) is within the bound and stays; the sum's norm is above 1.
    (total,) = summed([[torch.tensor([3.0, 4.0])], [torch.tensor([0.0, 0.5])]])
    torch.testing.assert_close(total, torch.tensor([0.6, 1.3]), rtol=2e-5, atol=0)


def test_a_vector_within_the_bound_is_unchanged_and_a_zero_one_stays_zero():
    small = torch.tensor([0.3, -0.4])
    assert torch.equal(summed([[small]])[0], small)
    assert torch.equal(summed([[torch.zeros(3)]])[0], torch.zeros(3))


@given(
    values=st.lists(st.floats(-(2.0**60), 2.0**60, width=32), min_size=1, max_size=12),
    clip_norm=st.floats(1e-3, 1e3),
)
@hypothesis_settings(deadline=None)
def test_one_vector_never_moves_the_sum_by_more_than_the_clip(values, clip_norm):
    (total,) = summed([[torch.tensor(values)]], clip_norm=clip_norm)
    assert float(torch.linalg.vector_norm(total.double())) <= clip_norm


@given(
    values=st.lists(st.floats(width=32), min_size=1, max_size=6),
    others=st.integers(0, 3),
)
@hypothesis_settings(deadline=None)
def test_adding_any_vector_at_all_moves_the_sum_by_at_most_the_clip(values, others):
    held = [[torch.full((len(values),), 0.25 * (i + 1))] for i in range(others)]
    like = [torch.zeros(len(values))]
    (without,) = summed(held, like=like)
    (with_it,) = summed([*held, [torch.tensor(values)]], like=like)
    moved = torch.linalg.vector_norm(with_it.double() - without.double())
    assert float(moved) <= 1 + 1e-6  # the rounding of a float32 sum of at most three


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_vector_that_is_not_finite_counts_as_nothing_and_raises_nothing(bad):
    vector = [torch.tensor([1.0, bad]), torch.tensor([2.0])]
    assert float(clip_scale(vector, 1.0)) == 0
    good = [torch.tensor([0.1, 0.2]), torch.tensor([0.3])]
    total = summed([vector, good])
    assert all(torch.equal(part, whole) for part, whole in zip(total, good, strict=True))


def test_a_vector_whose_norm_is_beyond_float32_is_clipped_like_any_other():
    # |(3e38, 3e38)| = 4.24e38 is more than float32 holds; scaled to 1 it is (0.7071, 0.7071).
    (total,) = summed([[torch.tensor([3e38, 3e38])]])
    assert torch.allclose(total, torch.full((2,), 0.5**0.5), atol=1e-4)
    assert float(total.double().norm()) <= 1


def test_the_norm_of_many_numbers_is_summed_in_float64():
    """In float32 it came out up to 0.02 % small at 8 million numbers: the clipped vector was too long."""
    vector = [torch.randn(4_000_000, generator=torch.Generator().manual_seed(0))]
    exact = float(np.linalg.norm(vector[0].numpy().astype(np.float64)))
    assert float(norm(vector)) == pytest.approx(exact, rel=1e-12)
    (total,) = summed([vector])
    assert float(np.linalg.norm(total.numpy().astype(np.float64))) <= 1


def test_an_empty_draw_is_noise_alone_and_the_same_noise_as_a_full_one():
    like = [torch.zeros(2, 3), torch.zeros(5)]
    wanted = SecretRandom(bytes(32)).normal([part.shape for part in like])
    empty = summed([], like=like, clip_norm=2.0, noise_multiplier=3.0, noise=SecretRandom(bytes(32)))
    for total, variates in zip(empty, wanted, strict=True):
        torch.testing.assert_close(total, 6 * variates)
    ones = [torch.ones_like(part) for part in like]
    full = summed([ones], like=like, clip_norm=2.0, noise_multiplier=3.0, noise=SecretRandom(bytes(32)))
    clear = summed([ones], like=like, clip_norm=2.0)
    for total, nothing, sum_ in zip(full, empty, clear, strict=True):
        torch.testing.assert_close(total - nothing, sum_, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("clip_norm", "multiplier"), [(1.0, 1.0), (0.25, 4.0), (7.0, 0.5)])
def test_noise_has_the_deviation_that_was_paid_for(clip_norm, multiplier):
    """Chi-squared test, two-sided: with 200,000 variates 1 % off is 6 standard deviations."""
    like = [torch.zeros(100_000), torch.zeros(200, 500)]
    total = summed([], like=like, clip_norm=clip_norm, noise_multiplier=multiplier)
    values = torch.cat([part.flatten() for part in total]).double().numpy() / (clip_norm * multiplier)
    chance = chi2.cdf(float(values @ values), len(values))
    assert min(chance, 1 - chance) > UNLIKELY / 2
    assert kstest(values, "norm").pvalue > UNLIKELY


@pytest.mark.parametrize("clip_norm", [0.0, -1.0, math.nan, math.inf])
def test_an_impossible_clip_is_refused_with_its_value(clip_norm):
    with pytest.raises(ValueError, match=f"clip_norm must be positive and finite, got {clip_norm}"):
        summed([[torch.ones(2)]], clip_norm=clip_norm)


@pytest.mark.parametrize("multiplier", [-0.1, math.nan, math.inf])
def test_an_impossible_noise_is_refused_with_its_value(multiplier):
    with pytest.raises(ValueError, match=f"noise_multiplier must be at least 0 and finite, got {multiplier}"):
        summed([[torch.ones(2)]], noise_multiplier=multiplier)


def test_vectors_of_another_length_than_the_critic_are_refused():
    with pytest.raises(ValueError, match="zip"):
        summed([[torch.ones(2)]], like=[torch.ones(2), torch.ones(1)])


def test_the_sum_equals_that_of_opacus_on_a_real_critic(tiny_study):
    """Opacus' DPOptimizer without noise, fed one gradient a subject, some above the clip and some below."""
    study = tiny_study()
    critic = build_critic(study)
    parameters, dice = list(critic.parameters()), torch.Generator().manual_seed(0)
    bags = [size * torch.randn((3, 2, 16, 16), generator=dice) for size in (0.1, 1, 5, 30, 0.02)]
    vectors = [torch.autograd.grad(-critic(bag).mean(), parameters) for bag in bags]
    clip_norm = float(norm(vectors[1]))
    lengths = [float(norm(vector)) for vector in vectors]
    assert min(lengths) < clip_norm < max(lengths)
    for number, parameter in enumerate(parameters):
        setattr(parameter, "grad_sample", torch.stack([vector[number] for vector in vectors]))  # noqa: B010
    optimiser = DPOptimizer(
        torch.optim.SGD(parameters, lr=1.0),
        noise_multiplier=0.0,
        max_grad_norm=clip_norm,
        expected_batch_size=1,
        loss_reduction="sum",
    )
    optimiser.clip_and_accumulate()
    for ours, parameter in zip(summed(vectors, clip_norm=clip_norm), parameters, strict=True):
        # Ours is smaller by its room of 1e-5, theirs by the 1e-6 that is added to every norm.
        theirs: Tensor = vars(parameter)["summed_grad"]
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-5 * float(theirs.abs().max()))


def test_who_takes_part_is_binomial_for_everybody_and_in_every_draw():
    """Chi-squared test of how often each of 50 units is drawn in 4,000 draws, and of the draws' sizes."""
    rate, units, draws = 0.3, 50, 4000
    taken = np.zeros((draws, units))
    for row in taken:
        row[draw_units(units, rate, DICE)] = 1
    variance = draws * rate * (1 - rate)
    by_unit = float((((taken.sum(0) - draws * rate) ** 2) / variance).sum())
    chance = chi2.cdf(by_unit, units)
    assert min(chance, 1 - chance) > UNLIKELY / 2
    # The rate itself: of 200,000 draws 1 % off is 3 standard deviations, 2 % is 6.
    assert abs(taken.sum() - units * draws * rate) < 5 * np.sqrt(units * variance)
    # Of its own: the size of a draw has the variance of a binomial, not that of a fixed-size batch (0).
    assert taken.sum(1).var(ddof=1) == pytest.approx(units * rate * (1 - rate), rel=0.15)


def test_at_rate_one_everybody_takes_part_and_of_nobody_nobody():
    assert draw_units(7, 1.0, DICE) == list(range(7))
    assert draw_units(0, 0.5, DICE) == []


def test_a_draw_may_be_empty():
    assert draw_units(3, 1e-9, DICE) == []


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.0001, math.nan, math.inf])
def test_an_impossible_rate_is_refused_with_its_value(rate):
    with pytest.raises(ValueError, match=rf"sampling_rate must lie in \(0, 1\], got {rate}"):
        draw_units(5, rate, DICE)


def test_clipping_and_noise_are_in_one_place_only():
    """A second mechanism would be a second way out of the hospital."""
    room = Path(inspect.getfile(inspect.unwrap(private_sum))).parent
    named = {path.name for path in room.rglob("*.py") if ".normal(" in path.read_text(encoding="utf-8")}
    assert named == {"private_sum.py"}
