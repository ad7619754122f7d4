"""Every way to a pair gives the patch that ``draw_pairs`` gives: one by one, in batches, by workers."""

import pickle

import numpy as np
import pytest
import torch
from harness.made_release import study_of, write
from torch.utils.data import DataLoader

from willis.shared import pair_forms, synthetic_pairs
from willis.shared.errors import ReleaseError, Unreachable
from willis.shared.networks.build import build_generator
from willis.shared.networks.start import arrays_of
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.release import GeneratorRelease
from willis.shared.synthesis import draw_pairs, export_pairs
from willis.shared.synthetic_pairs import SyntheticPairs

N = 70  # a block of 64 and a part of the next


@pytest.fixture(scope="module")
def release(tmp_path_factory) -> GeneratorRelease:
    arrays = {name: 3 * value for name, value in arrays_of(build_generator(study_of())).items()}
    return write(tmp_path_factory.mktemp("pairs") / "release", arrays=arrays)


@pytest.fixture(scope="module")
def drawn(release) -> tuple[torch.Tensor, torch.Tensor]:
    """Images and labels of the same seed, from ``draw_pairs``."""
    patches = draw_pairs(release, n=N, seed=7, device="cpu")
    labels = (patches[:, -1:] > 0).float()
    assert 0 < float(labels.mean()) < 1
    return patches[:, :-1], labels


def assert_same(pairs, numbers, drawn) -> None:
    """Compare pairs with the drawn ones of these numbers."""
    for (image, label), number in zip(pairs, numbers, strict=True):
        assert torch.equal(image, drawn[0][number])
        assert torch.equal(label, drawn[1][number])


def assert_same_batches(loader, drawn) -> None:
    """Compare what a loader gives in order with all that was drawn."""
    images, labels = zip(*loader, strict=True)
    assert torch.equal(torch.cat(images), drawn[0])
    assert torch.equal(torch.cat(labels), drawn[1])


def test_one_by_one_in_any_order(release, drawn):
    pairs = SyntheticPairs(release, n=N, seed=7)
    numbers = np.random.default_rng(0).permutation(N)
    assert len(pairs) == N
    assert_same([pairs[number] for number in numbers], numbers, drawn)


@pytest.mark.parametrize("memory_mib", [0, 0.01, 256])
def test_batched_in_any_order(release, drawn, memory_mib):
    pairs = SyntheticPairs(release, n=N, seed=7, memory_mib=memory_mib)
    numbers = np.random.default_rng(1).permutation(N).tolist()
    for first in range(0, N, 9):
        batch = numbers[first : first + 9]
        assert_same(pairs.__getitems__(batch), batch, drawn)


def test_a_folder_is_a_release_and_a_smaller_n_the_start_of_the_series(release, drawn):
    for folder in (release.folder, str(release.folder)):
        assert_same(SyntheticPairs(folder, n=5, seed=7), range(5), drawn)


def test_numbers_from_the_end_and_beyond(release, drawn):
    pairs = SyntheticPairs(release, n=N, seed=7)
    assert_same([pairs[-1], pairs[-N], pairs[np.int64(3)]], [N - 1, 0, 3], drawn)
    for beyond in (N, -N - 1):
        with pytest.raises(IndexError, match=f"pair {beyond} of 70: numbers go from -70 to 69"):
            pairs[beyond]
    with pytest.raises(IndexError):
        pairs.__getitems__([0, N])
    with pytest.raises(TypeError):
        pairs["3"]  # pyright: ignore[reportArgumentType]


def test_a_pair_that_is_changed_does_not_change_the_next(release, drawn):
    pairs = SyntheticPairs(release, n=N, seed=7)
    image, label = pairs[2]
    image.zero_()
    label.zero_()
    assert_same([pairs[2]], [2], drawn)


@pytest.mark.parametrize(("workers", "batch"), [(0, 16), (1, 64), (2, 16), (2, 64), (3, 7)])
def test_any_number_of_forked_workers_gives_the_same(release, drawn, workers, batch):
    pairs = SyntheticPairs(release, n=N, seed=7)
    pairs[0]  # what the process has drawn so far goes with it
    context = "fork" if workers else None
    loader = DataLoader(pairs, batch_size=batch, num_workers=workers, multiprocessing_context=context)
    assert_same_batches(loader, drawn)


def test_spawned_workers_give_the_same(release, drawn):
    pairs = SyntheticPairs(release.folder, n=N, seed=7)
    loader = DataLoader(pairs, batch_size=32, num_workers=2, multiprocessing_context="spawn")
    assert_same_batches(loader, drawn)


def test_what_is_pickled_is_the_release_and_not_what_was_drawn(release, drawn):
    pairs = SyntheticPairs(release, n=N, seed=7)
    before = len(pickle.dumps(pairs))
    pairs.__getitems__(range(N))
    assert len(pickle.dumps(pairs)) == before
    assert_same(pickle.loads(pickle.dumps(pairs)), range(N), drawn)


def test_a_shuffling_loader_draws_from_the_same_pairs(release, drawn):
    dice = torch.Generator().manual_seed(3)
    pairs = SyntheticPairs(release, n=N, seed=7)
    order = torch.randperm(N, generator=torch.Generator().manual_seed(3))
    loader = DataLoader(pairs, batch_size=N, sampler=order.tolist(), generator=dice)
    assert_same_batches(loader, (drawn[0][order], drawn[1][order]))


def test_a_transform_gets_every_pair(release, drawn):
    pairs = SyntheticPairs(release, n=3, seed=7, transform=lambda pair: (-pair[0], 1 - pair[1]))
    assert_same(pairs, range(3), (-drawn[0], 1 - drawn[1]))


def test_the_privacy_figure_is_the_releases(release):
    pairs = SyntheticPairs(release, n=10_000_000, seed=0)
    assert pairs.spent.sentence() == release.spent.sentence()
    assert pairs.block == 64
    assert len(pairs) == 10_000_000


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"n": 0}, "n must be 1 to 10000000, got 0"),
        ({"n": -3}, "got -3"),
        ({"n": 10_000_001}, "got 10000001"),
        ({"seed": -1}, "seed must be at least 0, got -1"),
        ({"memory_mib": -1}, "memory_mib must be at least 0, got -1"),
        ({"memory_mib": float("nan")}, "got nan"),
        ({"form": "numpy"}, 'form must be "tensor", "monai" or "torchio", got \'numpy\''),
    ],
)
def test_bad_values_are_told(release, changed, message):
    with pytest.raises(ValueError, match=message):
        SyntheticPairs(release, **({"n": 1, "seed": 0} | changed))


def test_no_release(tmp_path):
    with pytest.raises(ReleaseError, match="there is no such folder"):
        SyntheticPairs(tmp_path / "nothing", n=1, seed=0)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a CUDA device")
def test_a_device_that_is_not_there(release):
    with pytest.raises(Unreachable, match='device is "cuda"'):
        SyntheticPairs(release, n=1, seed=0, device="cuda")


def test_torchio_that_is_not_installed(release, monkeypatch):
    monkeypatch.setattr(pair_forms.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(Unreachable, match="torchio is not installed; run: pip install"):
        SyntheticPairs(release, n=1, seed=0, form="torchio")


def test_a_forked_worker_says_why_it_cannot_draw_on_cuda(release, monkeypatch):
    monkeypatch.setattr(synthetic_pairs, "choose_device", lambda wish, asked_by: torch.device(wish))
    pairs = SyntheticPairs(release, n=1, seed=0, device="cuda")
    monkeypatch.setattr(synthetic_pairs.os, "getpid", lambda: -1)
    with pytest.raises(Unreachable, match='num_workers=0 or multiprocessing_context="spawn"'):
        pairs[0]


@pytest.mark.gpu
def test_on_a_gpu_spawned_workers_draw_and_forked_ones_say_why_not(release):
    pairs = SyntheticPairs(release, n=N, seed=7, device="cuda")
    here = list(DataLoader(pairs, batch_size=32))
    spawned = list(DataLoader(pairs, batch_size=32, num_workers=1, multiprocessing_context="spawn"))
    for (image, label), (other_image, other_label) in zip(here, spawned, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(label, other_label)
    with pytest.raises(Unreachable, match="forked worker"):
        list(DataLoader(pairs, batch_size=32, num_workers=1, multiprocessing_context="fork"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"form": "tiff"}, "form must be one of nnunet, bids, npz, png, got 'tiff'"),
        ({"form": None}, "got None"),
        ({"form": "npz", "png_bits": 16}, "png_bits goes with form png, and form is npz"),
        ({"form": "nnunet", "png_bits": 8}, "png_bits goes with form png, and form is nnunet"),
        ({"form": "png", "bids_suffix": "T1w"}, "bids_suffix goes with form bids, and form is png"),
        ({"form": "png", "png_bits": 12}, "png_bits must be 8 or 16, got 12"),
    ],
)
def test_what_cannot_be_written_is_refused_before_anything_is_drawn(
    release, tmp_path, monkeypatch, options, said
):
    pairs = SyntheticPairs(release, n=5, seed=7)
    monkeypatch.setattr(NetworkSampler, "draw", lambda *given, **more: pytest.fail("it was drawn"))
    with pytest.raises(ValueError, match=said):
        pairs.write(tmp_path / "out", **options)
    with pytest.raises(ValueError, match=said):
        export_pairs(release, tmp_path / "out", n=5, seed=7, **options)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("memory_mib", "batch"), [(256, 63), (0, 7), (0.1, 7), (1, 14), (1e9, 63)])
def test_what_is_written_at_once_is_whole_blocks_within_the_memory(tmp_path, monkeypatch, memory_mib, batch):
    """Blocks of 7: a pair of 96 x 96 is 73,728 bytes, a block 0.49 MiB."""
    study = study_of()
    study = study.model_copy(update={"patch": study.patch.model_copy(update={"size": (96, 96)})})
    wide = write(tmp_path / "release", study=study, arrays=arrays_of(build_generator(study)))
    asked: list[int] = []
    monkeypatch.setattr(synthetic_pairs, "export_pairs", lambda *given, batch, **more: asked.append(batch))
    pairs = SyntheticPairs(wide, n=65, seed=7, memory_mib=memory_mib)
    pairs.write(tmp_path / "out", form="npz")
    assert (pairs.block, asked) == (7, [batch])


@pytest.mark.parametrize("form", ["nnunet", "bids", "npz", "png"])
def test_what_a_data_set_writes_is_what_willis_synthesize_writes(release, tmp_path, form):
    seen: list[int] = []
    pairs = SyntheticPairs(release, n=5, seed=7, transform=lambda pair: None)
    written = pairs.write(tmp_path / "a", form=form, progress=seen.append)
    wanted = export_pairs(release, tmp_path / "b", n=5, seed=7, form=form, device="cpu")
    assert written.relative_to(tmp_path / "a") == wanted.relative_to(tmp_path / "b")
    files = [path.relative_to(tmp_path / "b") for path in (tmp_path / "b").rglob("*") if path.is_file()]
    assert files
    assert all((tmp_path / "a" / one).read_bytes() == (tmp_path / "b" / one).read_bytes() for one in files)
    assert seen == [5]
