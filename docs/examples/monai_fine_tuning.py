"""MONAI: a U-net pre-trained on synthetic pairs and fine-tuned with ten real subjects, against the ten alone.

    python docs/examples/monai_fine_tuning.py --release runs/hippocampus/release \
        --training runs/hippocampus/training.csv --test runs/hippocampus/held_out.csv --out runs/fine-tuning

Three U-nets of the same first weights: one sees synthetic pairs alone, one the ten alone, one the synthetic
pairs and then the ten. The last two take the same number of steps in all. The ten are drawn from one table;
subjects of the other, which names none of them, are the test.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
from command_line import check_empty, options, plain_refusals
from jaxtyping import Bool
from monai.data.dataloader import DataLoader
from monai.data.dataset import Dataset
from monai.inferers.utils import sliding_window_inference
from monai.losses.dice import DiceCELoss
from monai.networks.nets.basic_unet import BasicUNet
from monai.transforms.compose import Compose
from monai.transforms.intensity.dictionary import RandAdjustContrastd, RandGaussianNoised
from monai.transforms.spatial.dictionary import RandAffined
from real_subjects import drawn_from, planes_last, read_apart, some, who_tested

from willis.client.cohort import Subject
from willis.client.patches import cut_patches, load_subject
from willis.shared.metrics.interval import bootstrap_interval
from willis.shared.metrics.masks import dice
from willis.shared.patch import PatchSpec
from willis.shared.synthetic_pairs import SyntheticPairs

matplotlib.use("Agg")
from matplotlib import pyplot
from matplotlib.lines import Line2D

SYNTHETIC, TEN, BOTH = "synthetic alone", "real alone", "synthetic, then real"
BATCH = 32

# %% The same augmentation for synthetic and for real patches: small turns, contrast, noise.
AUGMENT = Compose(
    [
        RandAffined(
            keys=["image", "label"],
            prob=0.7,
            rotate_range=0.2,
            scale_range=0.1,
            translate_range=3,
            mode=("bilinear", "nearest"),
            padding_mode="border",
        ),
        RandAdjustContrastd(keys="image", prob=0.3, gamma=(0.7, 1.4), retain_stats=True),
        RandGaussianNoised(keys="image", prob=0.3, std=0.05),
    ]
)


# %% Data: synthetic pairs drawn on the fly, as MONAI dictionaries; real patches, cut as the study cuts them.
def real_pairs(subjects: Sequence[Subject], spec: PatchSpec, *, seed: int) -> Dataset:
    """Return the patches of real subjects as MONAI dictionaries, augmented."""
    rng = np.random.default_rng(seed)
    patches = np.concatenate([cut_patches(load_subject(one, spec), spec, rng) for one in subjects])
    pairs = [
        {"image": torch.from_numpy(patch[:-1]), "label": torch.from_numpy(patch[-1:] > 0).float()}
        for patch in patches
    ]
    return Dataset(pairs, AUGMENT)


def endless(pairs: Any, *, seed: int) -> Iterator[dict[str, torch.Tensor]]:
    """Yield shuffled batches for ever."""
    order = torch.Generator().manual_seed(seed)
    loader = DataLoader(pairs, batch_size=BATCH, shuffle=True, generator=order)
    while True:
        yield from loader


# %% The network and its training: nothing here knows where a batch comes from.
def first_network(spec: PatchSpec, *, seed: int) -> BasicUNet:
    """Return a U-net for sides of 32 pixels and more; the same seed gives the same first weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return BasicUNet(
            spatial_dims=spec.dimensions,
            in_channels=len(spec.channels),
            out_channels=1,
            features=(16, 16, 32, 64, 128, 16),
        )


def train(
    network: BasicUNet, pairs: Any, *, steps: int, rate: float, seed: int, device: torch.device, name: str
) -> None:
    """Take so many steps of Adam, its rate falling to zero along a half cosine."""
    network.to(device).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    loss_of, batches = DiceCELoss(sigmoid=True, batch=True), endless(pairs, seed=seed)
    for step in range(1, steps + 1):
        batch = next(batches)
        loss = loss_of(network(batch["image"].to(device)), batch["label"].to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        if step % max(1, steps // 5) == 0:
            print(f"{name}: step {step} of {steps}, loss {loss.item():.3f}", flush=True)


# %% The test: whole scans, by sliding windows; a 2-D network sees a volume plane by plane.
@torch.no_grad()
def segment(network: BasicUNet, image: np.ndarray, spec: PatchSpec) -> Bool[np.ndarray, "row col plane"]:
    """Return the foreground of a scan whose planes lie along the last axis."""
    values = torch.from_numpy(image).to(next(network.parameters()).device)
    flat = spec.dimensions == 2
    batch = values.movedim(-1, 0) if flat else values[None]
    empty = 1.0 if spec.invert else -1.0
    found = sliding_window_inference(
        batch, spec.size, 32, network.eval(), overlap=0.5, mode="gaussian", cval=empty
    )
    assert isinstance(found, torch.Tensor)
    mask = (found[:, 0] > 0).cpu().numpy()
    return np.moveaxis(mask, 0, -1) if flat else mask[0]


def picture(shown: Sequence[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]], path: Path) -> None:
    """Draw each subject's plane with most foreground: the truth in white, each network's contour over it."""
    colours = {SYNTHETIC: "tab:orange", TEN: "tab:cyan", BOTH: "tab:green"}
    figure, axes = pyplot.subplots(1, len(shown), figsize=(4 * len(shown), 4.4), squeeze=False)
    for axis, (image, truth, masks) in zip(axes[0], shown, strict=True):
        plane = int(truth.sum((0, 1)).argmax())
        axis.imshow(image[0, ..., plane], cmap="gray")
        axis.contour(truth[..., plane], [0.5], colors="white", linewidths=1.5)
        for name, mask in masks.items():
            if mask[..., plane].any():
                axis.contour(mask[..., plane], [0.5], colors=colours[name], linewidths=1.2)
        axis.axis("off")
    lines = [Line2D([], [], color=colour) for colour in ("lightgrey", *colours.values())]
    figure.legend(lines, ["truth", *colours], loc="lower center", ncols=4, frameon=False)
    figure.savefig(path, dpi=120, bbox_inches="tight")


def row_of(found: Sequence[float]) -> dict[str, Any]:
    """Return the mean Dice of scans, with an interval."""
    return {
        "dice": float(np.mean(found)),
        "interval": bootstrap_interval(found, rng=np.random.default_rng(1)),
    }


# %% All of it.
def arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = options(__doc__, training=True)
    parser.add_argument("--real", type=int, default=10, help="real subjects to fine-tune with")
    parser.add_argument("--pairs", type=int, default=2000, help="synthetic pairs")
    parser.add_argument("--steps", type=int, default=600, help="on synthetic pairs")
    parser.add_argument("--fine-steps", type=int, default=300, help="on real patches")
    return parser.parse_args()


def trained(asked: argparse.Namespace, pairs: SyntheticPairs, real: Dataset) -> dict[str, BasicUNet]:
    """Train the three networks."""
    spec, device = pairs.study.patch, torch.device(asked.device)
    networks = {name: first_network(spec, seed=asked.seed) for name in (SYNTHETIC, TEN)}
    train(networks[SYNTHETIC], pairs, steps=asked.steps, rate=3e-3, seed=1, device=device, name=SYNTHETIC)
    networks[BOTH] = first_network(spec, seed=asked.seed)
    networks[BOTH].load_state_dict(networks[SYNTHETIC].state_dict())
    train(networks[BOTH], real, steps=asked.fine_steps, rate=1e-3, seed=2, device=device, name=BOTH)
    steps = asked.steps + asked.fine_steps
    train(networks[TEN], real, steps=steps, rate=3e-3, seed=3, device=device, name=TEN)
    return networks


def main() -> None:
    """Train, compare on real subjects, write ``scores.json`` and ``test.png``."""
    asked = arguments()
    AUGMENT.set_random_state(asked.seed)
    with plain_refusals():
        check_empty(asked.out)
        # Synthetic pairs have the order of a seed: pair i is the same on every machine.
        pairs = SyntheticPairs(
            asked.release,
            n=asked.pairs,
            seed=asked.seed,
            form="monai",
            transform=AUGMENT,
            device=asked.device,
        )
        cohort, training = read_apart(asked.test, asked.training)
        assert training is not None, "the command line asks for it"
        tested = some(cohort, asked.subjects, seed=asked.seed)
        ten = some(training, asked.real, seed=asked.seed)
        real = real_pairs(ten, pairs.study.patch, seed=asked.seed)
        asked.out.mkdir(parents=True, exist_ok=True)
    print(drawn_from(pairs))
    networks = trained(asked, pairs, real)

    scores: dict[str, list[float]] = {name: [] for name in networks}
    shown = []
    for subject in tested:
        for image, label in planes_last(subject, pairs.study.patch):
            masks = {name: segment(network, image, pairs.study.patch) for name, network in networks.items()}
            for name, mask in masks.items():
                scores[name].append(dice(mask, label > 0))
            shown.append((image, label, masks))
    picture(shown[:3], asked.out / "test.png")
    told = {name: row_of(found) for name, found in scores.items()}
    about = {"scans": len(shown), "real_subjects": len(ten), "covered_by_epsilon": False}
    (asked.out / "scores.json").write_text(json.dumps(told | about, indent=2) + "\n", encoding="utf-8")
    for name, row in told.items():
        print(f"{name:22} Dice {row['dice']:.3f} ({row['interval'][0]:.3f} to {row['interval'][1]:.3f})")
    print(who_tested(shown, asked.test, asked.training))
    print(f"{asked.out / 'test.png'} shows real subjects: it stays where they do.")


if __name__ == "__main__":
    main()
