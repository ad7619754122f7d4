"""The sheet of likeness: what it holds, what it says, and how it orders good and bad fakes."""

import math
import time

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

from willis.shared.errors import CohortError
from willis.shared.likeness.sheet import LikenessSheet, likeness
from willis.shared.prior.draw import draw_patches
from willis.shared.prior.families import Family

N = 60
NAMES = [
    *(
        f"{figure}[{space}]"
        for space in ("randconv2ch", "morpho13")
        for figure in ("fd", "coverage", "density")
    ),
    "ms-ssim[3 scales]",
]


@pytest.fixture(scope="module")
def vessels() -> torch.Tensor:
    return draw_patches(Family.VESSELS, n=4 * N, size=(32, 32), generator=np.random.default_rng(2))


@pytest.fixture(scope="module")
def parts(vessels) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Other patches that pass for fakes, real training patches, and a reference."""
    return vessels[:N], vessels[N : 3 * N], vessels[3 * N :]


def noise(n: int) -> torch.Tensor:
    return torch.rand(n, 2, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1


@pytest.fixture(scope="module")
def sheet(parts) -> LikenessSheet:
    return likeness(*parts, seed=1, n=N)


def test_every_figure_stands_beside_real_against_real_at_its_number(sheet):
    assert [figure.name for figure in sheet.figures] == NAMES
    assert {figure.n for figure in sheet.figures} == {N}
    assert sheet.degenerate["patches"] == sheet.degenerate_real["patches"] == N
    assert sheet.figure("fd[morpho13]").better == "lower"
    with pytest.raises(KeyError):
        sheet.figure("fid")


def test_the_sheet_says_what_it_does_not_cover_and_cannot_see(sheet):
    assert "statistics of real patients; not covered by epsilon" in sheet.note
    assert sheet.covered_by_epsilon is False
    assert "memorisation" in sheet.memorisation
    assert LikenessSheet.model_validate_json(sheet.model_dump_json()) == sheet
    with pytest.raises(ValueError, match="covered_by_epsilon"):
        LikenessSheet.model_validate(sheet.model_dump() | {"covered_by_epsilon": True})


def test_fakes_of_the_same_prior_do_as_well_as_real_and_noise_does_worse(parts, sheet):
    noisy = likeness(noise(N), *parts[1:], seed=1, n=N)
    for space in ("randconv2ch", "morpho13"):
        fair, bad = (one.figure(f"fd[{space}]") for one in (sheet, noisy))
        assert 0.5 < fair.value / fair.real_against_real < 2
        assert bad.value > 4 * fair.value
        assert bad.real_against_real == fair.real_against_real
        fair, bad = (one.figure(f"coverage[{space}]") for one in (sheet, noisy))
        assert abs(fair.value - fair.real_against_real) < 0.2
        assert bad.value < fair.value / 4
    fair, bad = (one.figure("ms-ssim[3 scales]") for one in (sheet, noisy))
    assert bad.value < fair.value
    assert noisy.degenerate["not_binary"] == N
    assert noisy.degenerate_real["not_binary"] == 0


def test_a_collapsed_generator_is_seen(parts, sheet):
    fake, real, reference = parts
    steps = torch.linspace(-0.01, 0.01, N)[:, None, None, None]
    collapsed = likeness(fake[:1].repeat(N, 1, 1, 1) + steps, real, reference, seed=1, n=N)
    assert collapsed.figure("ms-ssim[3 scales]").value > 0.95 > sheet.figure("ms-ssim[3 scales]").value
    assert collapsed.figure("coverage[randconv2ch]").value < 0.5 * sheet.figure("coverage[randconv2ch]").value
    assert collapsed.figure("fd[randconv2ch]").value > 4 * sheet.figure("fd[randconv2ch]").value


def test_empty_and_full_masks_do_not_break_it_and_are_counted(parts):
    fake, real, reference = parts[0].clone(), *parts[1:]
    fake[: N // 2, -1], fake[N // 2 :, -1] = -1, 1
    found = likeness(fake, real, reference, seed=1, n=N)
    assert (found.degenerate["empty"], found.degenerate["full"]) == (N // 2, N // 2)
    assert found.figure("fd[morpho13]").value > 4 * found.figure("fd[morpho13]").real_against_real


def test_copies_of_training_patches_score_best_of_all(parts):
    # No figure sees memorisation: the sheet says so, and the audit stands beside it.
    _, real, reference = parts
    copies = real[:N].roll(5, 0)
    found = likeness(copies, real[:N], reference, seed=1, n=N)
    for space in ("randconv2ch", "morpho13"):
        assert found.figure(f"fd[{space}]").value == pytest.approx(0, abs=1e-6)
        assert found.figure(f"fd[{space}]").value < found.figure(f"fd[{space}]").real_against_real
        assert (
            found.figure(f"coverage[{space}]").value >= found.figure(f"coverage[{space}]").real_against_real
        )


def test_seed_and_n_name_the_draws(parts):
    fake, real, reference = parts
    one, again, other = (likeness(fake, real, reference, seed=seed, n=30) for seed in (1, 1, 2))
    assert one == again
    assert one.figures != other.figures
    assert {figure.n for figure in one.figures} == {30}


def test_three_dimensions_and_two_image_channels():
    sets = [torch.rand(30, 3, 8, 8, 8, generator=torch.Generator().manual_seed(s)) * 2 - 1 for s in (1, 2, 3)]
    found = likeness(sets[0], sets[1], sets[2], seed=1, n=30)
    assert found.figure("fd[randconv3ch]").value > 0
    assert found.figure("fd[morpho13]").value > 0
    assert 0 <= found.figure("ms-ssim[1 scales]").value < 1


def test_unfit_sets_are_refused(parts):
    fake, real, reference = parts
    with pytest.raises(CohortError, match=r"fake: 59 patches; give more, or ask for n = 59"):
        likeness(fake[:59], real, reference, seed=1, n=N)
    with pytest.raises(CohortError, match="at least 25 patches in each set, got 24"):
        likeness(fake, real, reference, seed=1, n=24)
    with pytest.raises((ValueError, TypeCheckError), match=r"one size|f32\[120,2,32,32\]"):
        likeness(fake[..., :16], real, reference, seed=1, n=N)
    spoilt = reference.clone()
    spoilt[0, 0, 0, 0] = math.nan
    with pytest.raises(ValueError, match="reference patches must be finite"):
        likeness(fake, real, spoilt, seed=1, n=N)


@pytest.mark.slow
def test_a_thousand_patches_of_96_pixels_take_less_than_a_minute_on_a_core():
    patches = draw_patches(Family.VESSELS, n=500, size=(96, 96), generator=np.random.default_rng(2))
    fake, real, reference = patches.roll(200, 0).repeat(2, 1, 1, 1), patches.repeat(2, 1, 1, 1), patches
    started = time.process_time()
    likeness(fake, real, reference.roll(100, 0).repeat(2, 1, 1, 1), seed=1, n=1000)
    assert time.process_time() - started < 60
