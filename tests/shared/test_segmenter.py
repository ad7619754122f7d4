"""The segmenter: it learns discs, stitches what a network says of windows, and keeps a volume's axes."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from willis.shared.metrics.masks import dice
from willis.shared.patch import PatchSpec
from willis.shared.segmenter import Segmenter, UNet, augment, fast_precision, train_segmenter
from willis.shared.study import UsePlan

CPU = torch.device("cpu")
SPEC = PatchSpec(size=(32, 32))
PLAN = UsePlan(unet_steps=60, unet_batch=8, unet_width=8)


def discs(n: int, side: int, *, seed: int) -> Tensor:
    """Return patches of one brighter disc each in noise, and their masks."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    centre = side * (0.25 + 0.5 * torch.rand(2, n, 1, 1, generator=generator))
    radius = side * (0.15 + 0.15 * torch.rand(n, 1, 1, generator=generator))
    inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 <= radius**2
    image = torch.where(inside, 0.4, -0.4) + 0.1 * torch.randn(n, side, side, generator=generator)
    return torch.stack([image.clamp(-1, 1), 2.0 * inside - 1], dim=1)


def mean_dice(segmenter: Segmenter, patches: Tensor) -> float:
    masks = [segmenter.predict(patch[:-1]).numpy() for patch in patches]
    return float(
        np.mean([dice(mask, patch[-1].numpy() > 0) for mask, patch in zip(masks, patches, strict=True)])
    )


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    # Small nets gain nothing from more, and lose much where the cores are busy.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def trained() -> Segmenter:
    generator = torch.Generator().manual_seed(0)
    return train_segmenter(discs(64, 32, seed=1), SPEC, plan=PLAN, generator=generator, device=CPU)


class Told(nn.Module):
    """Says a logit that is a known function of the window."""

    def __init__(self, logit) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, windows: Tensor) -> Tensor:
        return self.logit(windows)


def told(logit, spec: PatchSpec = SPEC) -> Segmenter:
    return Segmenter(Told(logit), spec, CPU)


def test_a_trained_segmenter_finds_discs_and_an_untrained_one_does_not(trained):
    unseen = discs(12, 48, seed=2)
    assert mean_dice(trained, unseen) > 0.9
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        untrained = Segmenter(UNet(SPEC, width=8), SPEC, CPU)
    assert mean_dice(untrained, unseen) < 0.6


def test_training_is_seeded_and_tells_its_progress():
    plan, seen = UsePlan(unet_steps=2, unet_batch=2, unet_width=2), []
    patches, image = discs(4, 32, seed=3), discs(1, 32, seed=4)[0, :-1]

    def chances(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return train_segmenter(
            patches, SPEC, plan=plan, generator=generator, device=CPU, progress=lambda *at: seen.append(at)
        ).probability(image)

    before = torch.random.get_rng_state()
    first = chances(7)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert seen == [(1, 2), (2, 2)]
    assert torch.equal(chances(7), first)
    assert not torch.equal(chances(8), first)


def test_stitching_equals_the_network_on_each_tile(trained):
    image = discs(1, 64, seed=5)[0, :-1]
    stitched = trained.probability(image, overlap=0.0)
    for row in (0, 32):
        for column in (0, 32):
            tile = image[:, row : row + 32, column : column + 32]
            with torch.no_grad(), fast_precision(CPU):
                alone = torch.sigmoid(trained.network(tile[None]).float())[0, 0]
            here = stitched[row : row + 32, column : column + 32]
            # bfloat16 keeps 8 bits, and rounds a batch of one otherwise than one of four.
            torch.testing.assert_close(here, alone, atol=0.03, rtol=0)


@settings(max_examples=20, deadline=None)
@given(st.integers(5, 90), st.integers(5, 90), st.floats(0, 0.8))
def test_stitching_returns_what_is_said_of_single_pixels(rows, columns, overlap):
    # A network that looks at one pixel at a time must give the same, however windows, pads and blends fall.
    image = torch.rand(1, rows, columns, generator=torch.Generator().manual_seed(rows)) * 2 - 1
    stitched = told(lambda windows: 3 * windows).probability(image, overlap=overlap)
    torch.testing.assert_close(stitched, torch.sigmoid(3 * image[0]), atol=1e-5, rtol=0)


@pytest.mark.parametrize("invert", [False, True])
def test_a_small_image_lies_in_the_middle_of_empty_background(invert):
    seen = []

    def keep(windows: Tensor) -> Tensor:
        seen.append(windows.clone())
        return windows

    spec = PatchSpec(size=(32, 32), invert=invert)
    told(keep, spec).probability(torch.zeros(1, 10, 7))
    wanted = torch.full((32, 32), 1.0 if invert else -1.0)
    wanted[11:21, 12:19] = 0  # (32 - 10) // 2 and (32 - 7) // 2
    assert len(seen) == 1
    assert torch.equal(seen[0][0, 0], wanted)


@pytest.mark.parametrize(("axis", "where"), [("sagittal", 0), ("coronal", 1), ("axial", 2)])
def test_a_volume_is_seen_slice_by_slice_along_each_axis(axis, where):
    # Every voxel knows its own address; the network says of a slice how its corner and each pixel stand.
    volume = torch.arange(9 * 10 * 11, dtype=torch.float32).reshape(1, 9, 10, 11) / 990 * 2 - 1
    shapes = []

    def say(windows: Tensor) -> Tensor:
        shapes.append(tuple(windows.shape[2:]))
        middle = windows[:, :, 16:17, 16:17]  # one pixel of the same slice, so slices must not be mixed
        return windows + middle

    segmenter = told(say, PatchSpec(size=(32, 32), axis=axis))
    chances = segmenter.probability(volume)
    assert set(shapes) == {(32, 32)}
    expected = torch.stack(
        [
            torch.sigmoid(plane + plane[16 - (32 - plane.shape[0]) // 2, 16 - (32 - plane.shape[1]) // 2])
            for plane in volume[0].unbind(where)
        ],
        dim=where,
    )
    torch.testing.assert_close(chances, expected, atol=1e-5, rtol=0)


def test_three_dimensions_train_and_predict():
    spec = PatchSpec(size=(16, 16, 16))
    plan = UsePlan(unet_steps=1, unet_batch=1, unet_width=1)
    patches = discs(2, 16, seed=6)[..., None].expand(-1, -1, -1, -1, 16).contiguous()
    generator = torch.Generator().manual_seed(0)
    segmenter = train_segmenter(patches, spec, plan=plan, generator=generator, device=CPU)
    mask = segmenter.predict(torch.zeros(1, 12, 16, 20))
    assert mask.shape == (12, 16, 20)
    assert mask.dtype == torch.bool


def test_augmentation_keeps_image_and_mask_together_and_in_range():
    patches = discs(40, 16, seed=8)
    image, truth = augment(patches, torch.Generator().manual_seed(1))
    assert image.abs().max() <= 1
    assert set(truth.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(truth.sum((1, 2, 3)), (patches[:, -1:] > 0).sum((1, 2, 3)).float())
    # The disc is 0.8 above its surroundings, times a gain of at least 0.8: brighter inside, after every flip.
    inside = (image * truth).sum((1, 2, 3)) / truth.sum((1, 2, 3))
    outside = (image * (1 - truth)).sum((1, 2, 3)) / (1 - truth).sum((1, 2, 3))
    assert bool((inside - outside > 0.5).all())
    # Some of 40 patches were flipped, and the caller's were not touched.
    assert not torch.equal(truth, (patches[:, -1:] > 0).float())
    assert torch.equal(patches, discs(40, 16, seed=8))


@pytest.mark.parametrize(
    ("patches", "message"),
    [
        (torch.zeros(0, 2, 32, 32), "got 0"),
        (torch.zeros(2, 2, 32, 16), r"\(2, 2, 32, 16\)"),
        (torch.full((2, 2, 32, 32), math.nan), "finite"),
        (torch.full((2, 2, 32, 32), 1.5), r"within \[-1, 1\]"),
    ],
)
def test_patches_that_do_not_fit_are_refused(patches, message):
    with pytest.raises(ValueError, match=message):
        train_segmenter(patches, SPEC, plan=PLAN, generator=torch.Generator(), device=CPU)


@pytest.mark.parametrize(
    ("image", "overlap", "message"),
    [
        (torch.zeros(2, 40, 40), 0.5, "1 channels"),
        (torch.zeros(40, 40), 0.5, "channels come first"),
        (torch.full((1, 40, 40), math.nan), 0.5, "finite"),
        (torch.zeros(1, 40, 40), 1.0, "overlap"),
        (torch.zeros(1, 40, 40), math.nan, "overlap"),
    ],
)
def test_images_that_do_not_fit_are_refused(image, overlap, message):
    with pytest.raises(ValueError, match=message):
        told(lambda windows: windows).probability(image, overlap=overlap)


def test_a_volume_needs_its_channel_axis_first():
    # Three axes and a 3-D segmenter: the channel is missing.
    with pytest.raises(ValueError, match="3-D segmenter"):
        told(lambda windows: windows, PatchSpec(size=(16, 16, 16))).probability(torch.zeros(16, 16, 16))


@pytest.mark.parametrize(("supported", "dtype"), [(True, torch.bfloat16), (False, torch.float32)])
def test_bfloat16_only_where_the_cpu_has_it(monkeypatch, supported, dtype):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: supported)
    with fast_precision(CPU):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_fine_tuning_starts_from_the_weights_of_another(trained):
    """With a rate of almost nothing the start is what comes out; the start itself stays as it is."""
    before = {name: value.clone() for name, value in trained.network.state_dict().items()}
    few = discs(8, 32, seed=2)

    def tuned(steps: int, start: Segmenter | None) -> Segmenter:
        plan = PLAN.model_copy(update={"unet_steps": steps})
        dice = torch.Generator().manual_seed(5)
        return train_segmenter(few, SPEC, plan=plan, generator=dice, device=CPU, start=start)

    one = tuned(1, trained)
    after = trained.network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    moved = max(float((value - before[name]).abs().max()) for name, value in one.network.state_dict().items())
    # One step of Adam moves every weight by at most its rate.
    assert 0 < moved <= 3e-3 * 1.001
    test = discs(16, 32, seed=3)
    assert mean_dice(tuned(1, trained), test) > mean_dice(tuned(1, None), test) + 0.2


def test_fine_tuning_refuses_another_unet(trained):
    with pytest.raises(ValueError, match=r"start must be a U-net of the same channels"):
        train_segmenter(
            discs(8, 32, seed=2),
            SPEC,
            plan=UsePlan(unet_steps=1, unet_batch=2, unet_width=4),
            generator=torch.Generator().manual_seed(0),
            device=CPU,
            start=trained,
        )
