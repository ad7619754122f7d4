"""torchio on synthetic pairs: what does augmentation add on real patients?

    python docs/examples/torchio_augmentation.py --release runs/hippocampus/release \
        --test runs/hippocampus/held_out.csv --training runs/hippocampus/training.csv --out runs/augmentation

Two small networks of the same first weights learn from the same synthetic pairs, one from pairs as they are
drawn, one from pairs that torchio turns, blurs, shades and makes noisy. Real subjects of a table test both;
with ``--training``, where you know it, nobody may be in both tables. Without ``--test`` both networks are
tested on pairs of another seed, which tells nothing about patients.
"""

# torchio tells its types loosely.
# pyright: reportPrivateImportUsage=false, reportAttributeAccessIssue=false
import argparse
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torchio
from command_line import check_empty, options, plain_refusals
from monai.losses.dice import DiceLoss
from monai.networks.nets.unet import UNet
from real_subjects import drawn_from, planes_last, read_apart, some, who_tested
from torch import Tensor

from willis.client.cohort import Subject
from willis.shared.metrics.interval import bootstrap_interval
from willis.shared.metrics.masks import dice
from willis.shared.patch import PatchSpec
from willis.shared.synthetic_pairs import SyntheticPairs

PLAIN, AUGMENTED = "as drawn", "augmented"
BATCH = 16

# %% torchio's transforms, for image and label together. They draw from torch's own dice, which `main` sets.
# Within the first two axes alone: a slice that moves along the third leaves its volume of one slice.
AUGMENT = torchio.Compose(
    [
        torchio.RandomAffine(
            scales=(0.9, 1.1, 0.9, 1.1, 1, 1),
            degrees=(0, 0, 0, 0, -10, 10),
            translation=(-2, 2, -2, 2, 0, 0),
            p=0.7,
        ),
        torchio.OneOf(
            {torchio.RandomBlur(std=(0, 1)): 1, torchio.RandomBiasField(coefficients=0.3): 1}, p=0.5
        ),
        torchio.RandomGamma(log_gamma=0.2, p=0.5),
        torchio.RandomNoise(std=(0, 0.08), p=0.5),
    ]
)


# %% A 2-D patch is a volume of one slice for torchio, and a plane for a 2-D network.
def for_network(data: Tensor, spec: PatchSpec) -> Tensor:
    """Bring torchio's (item, channel, row, col, plane) into a network's form; planes become items."""
    return data.movedim(-1, 1).flatten(0, 1) if spec.dimensions == 2 else data


def batches(pairs: SyntheticPairs) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield image and label for ever, in the order of the pairs; a block of them is drawn at once."""
    while True:
        for batch in torchio.SubjectsLoader(pairs, batch_size=BATCH):
            image, label = (batch[name]["data"] for name in ("image", "label"))
            yield for_network(image, pairs.study.patch), for_network(label, pairs.study.patch)


# %% The network, and its training.
def train(pairs: SyntheticPairs, *, steps: int, seed: int, device: torch.device, name: str) -> UNet:
    """Train a small U-net; the same seed gives the same first weights."""
    spec = pairs.study.patch
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = UNet(spec.dimensions, len(spec.channels), 1, channels=(16, 32, 64), strides=(2, 2))
    network.to(device)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    falling = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step, (images, labels) in zip(range(1, steps + 1), batches(pairs), strict=False):
        loss = DiceLoss(sigmoid=True)(network(images.to(device)), labels.to(device))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        falling.step()
        if step % max(1, steps // 5) == 0:
            print(f"{name}: step {step} of {steps}, loss {loss.item():.3f}", flush=True)
    return network.eval()


# %% The test: whole scans as torchio subjects, padded to what the network can halve, and cropped back.
def real_scans(subjects: Sequence[Subject], spec: PatchSpec) -> list[torchio.Subject]:
    """Return all scans of real subjects."""
    return [
        torchio.Subject(
            image=torchio.ScalarImage(tensor=torch.from_numpy(image)),
            label=torchio.LabelMap(tensor=torch.from_numpy(label)[None]),
        )
        for subject in subjects
        for image, label in planes_last(subject, spec)
    ]


@torch.no_grad()
def score(network: UNet, scan: torchio.Subject, spec: PatchSpec) -> float:
    """Return the Dice of one scan."""
    multiple = (4, 4, 1) if spec.dimensions == 2 else 4
    padded = torchio.EnsureShapeMultiple(multiple, method="pad")(scan)
    images = for_network(padded["image"].data[None].float(), spec)
    found = (network(images.to(next(network.parameters()).device)) > 0).cpu()
    mask = found[:, 0].movedim(0, -1)[None] if spec.dimensions == 2 else found[0]
    padded.add_image(torchio.LabelMap(tensor=mask.to(torch.uint8)), "found")
    unpadded = padded.apply_inverse_transform(warn=False)
    return dice(unpadded["found"].data[0].numpy() > 0, scan["label"].data[0].numpy() > 0)


def row_of(found: Sequence[float]) -> dict[str, object]:
    """Return the mean Dice of scans, with an interval."""
    interval = bootstrap_interval(found, rng=np.random.default_rng(1))
    return {"dice": float(np.mean(found)), "interval": interval, "scans": len(found)}


# %% All of it.
def trained(asked: argparse.Namespace, pairs: SyntheticPairs) -> dict[str, UNet]:
    """Train on the pairs as they are drawn, and augmented."""
    turned = drawn(asked, n=asked.pairs, seed=asked.seed, transform=AUGMENT)
    networks = {}
    for name, source in ((PLAIN, pairs), (AUGMENTED, turned)):
        with torch.random.fork_rng():
            torch.manual_seed(asked.seed)  # for torchio, which takes no generator
            device = torch.device(asked.device)
            networks[name] = train(source, steps=asked.steps, seed=asked.seed, device=device, name=name)
    return networks


def drawn(
    asked: argparse.Namespace, *, n: int, seed: int, transform: torchio.Transform | None = None
) -> SyntheticPairs:
    """Return synthetic pairs as torchio's subjects."""
    return SyntheticPairs(asked.release, n=n, seed=seed, form="torchio", transform=transform)


def main() -> None:
    """Train without and with augmentation, test both, write ``scores.json``."""
    parser = options(__doc__, test=False)
    parser.add_argument("--pairs", type=int, default=1000, help="synthetic pairs")
    parser.add_argument("--steps", type=int, default=600)
    asked = parser.parse_args()
    with plain_refusals():
        check_empty(asked.out)
        if asked.training is not None and asked.test is None:
            raise ValueError("--training is looked at beside --test alone; name both tables, or neither")
        pairs = drawn(asked, n=asked.pairs, seed=asked.seed)
        spec = pairs.study.patch
        if asked.test is None:
            fresh = drawn(asked, n=asked.subjects, seed=asked.seed + 1)
            scans = [fresh[place] for place in range(len(fresh))]
            said = "Pairs of another seed: this tells nothing about patients."
        else:
            cohort, _ = read_apart(asked.test, asked.training)
            scans = real_scans(some(cohort, asked.subjects, seed=asked.seed), spec)
            said = who_tested(scans, asked.test, asked.training)
        asked.out.mkdir(parents=True, exist_ok=True)
    print(drawn_from(pairs))
    networks = trained(asked, pairs)

    told = {name: row_of([score(one, scan, spec) for scan in scans]) for name, one in networks.items()}
    about = {"on_real_subjects": asked.test is not None, "covered_by_epsilon": asked.test is None}
    (asked.out / "scores.json").write_text(json.dumps(told | about, indent=2) + "\n", encoding="utf-8")
    for name, row in told.items():
        print(f"{name:10} Dice {row['dice']:.3f} on {row['scans']} scans")
    print(said)


if __name__ == "__main__":
    main()
