"""nnU-Net on synthetic pairs alone, tested on real patients.

    pip install 'willis[examples]'
    python docs/examples/nnunet_on_synthetic.py --release runs/hippocampus/release \
        --test runs/hippocampus/held_out.csv --training runs/hippocampus/training.csv --out runs/nnunet

The release is a folder: ``willis collect fetch`` brings one from a hub, ``willis simulate`` makes one. The
tables have the columns of cohort.csv; with ``--training``, where you know it, nobody may be in both.
"""

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from command_line import check_empty, options, plain_refusals
from nibabel.loadsave import save
from nibabel.nifti1 import Nifti1Image, load
from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer
from real_subjects import drawn_from, planes_last, read_apart, some, who_tested

from willis.client.cohort import Subject
from willis.shared.metrics.interval import bootstrap_interval
from willis.shared.metrics.masks import dice
from willis.shared.patch import PatchSpec
from willis.shared.synthetic_pairs import SyntheticPairs

NUMBER = "901"


# %% Plan, check, preprocess: nnU-Net's own command.
def plan(*, configuration: str, processes: int) -> None:
    """Run ``nnUNetv2_plan_and_preprocess``; its words go to the terminal."""
    words = ["-d", NUMBER, "--verify_dataset_integrity", "-c", configuration]
    words += ["-np", str(processes), "-npfp", str(processes)]
    print("$ nnUNetv2_plan_and_preprocess", *words, flush=True)
    command = str(Path(sys.executable).parent / "nnUNetv2_plan_and_preprocess")
    subprocess.run([command, *words], check=True)


# %% Train: nnU-Net's own trainer, for less than the 1000 epochs of `nnUNetv2_train 901 2d all`.
def train(prepared: Path, *, configuration: str, epochs: int, iterations: int, device: str) -> nnUNetTrainer:
    """Train on all cases; the checkpoint lies where ``nnUNetv2_predict`` looks for it."""
    os.environ.setdefault("nnUNet_n_proc_DA", "0")  # processes that augment are in the way on few cores
    plans = json.loads((prepared / "nnUNetPlans.json").read_text()) | {"continue_training": False}
    sheet = json.loads((prepared / "dataset.json").read_text())
    trainer = nnUNetTrainer(plans, configuration, "all", sheet, torch.device(device))  # pyright: ignore[reportArgumentType]
    trainer.num_epochs, trainer.num_iterations_per_epoch = epochs, iterations
    trainer.num_val_iterations_per_epoch = 1  # on synthetic cases: real subjects are the test
    trainer.run_training()
    return trainer


# %% Predict, from the checkpoint that the training left; no mirrored copies, which take four times as long.
def predict(trained: Path, cases: Path, *, device: str) -> None:
    """Segment the images of ``cases/images`` into ``cases/predicted``."""
    predictor = nnUNetPredictor(use_mirroring=False, device=torch.device(device), allow_tqdm=False)
    predictor.initialize_from_trained_model_folder(str(trained), use_folds=("all",))
    (cases / "predicted").mkdir()
    predictor.predict_from_files_sequential(str(cases / "images"), str(cases / "predicted"))


# %% Real subjects: the scans as nnU-Net reads them, one file a channel, slices along the last axis.
def write_cases(subjects: Sequence[Subject], spec: PatchSpec, folder: Path) -> dict[str, np.ndarray]:
    """Write the scans without their labels; return the labels by case."""
    (folder / "images").mkdir(parents=True)
    steps = [*(spec.spacing_mm or [1.0] * spec.dimensions), 1.0][:3]
    truths = {}
    for number, subject in enumerate(subjects):
        for place, (image, label) in enumerate(planes_last(subject, spec)):
            case = f"case_{number:03d}_{place}"  # the pseudonym stays in the cohort's table
            truths[case] = label > 0
            for channel, values in enumerate(image):
                one = Nifti1Image(values, np.diag([*steps, 1.0]))
                save(one, folder / "images" / f"{case}_{channel:04d}.nii.gz")
    return truths


def scores(truths: dict[str, np.ndarray], predicted: Path) -> list[float]:
    """Return the Dice of every case."""
    masks = {case: load(predicted / f"{case}.nii.gz") for case in truths}
    return [dice(np.asarray(masks[case].dataobj) > 0, truth) for case, truth in truths.items()]


# %% All of it.
def main() -> None:
    """Train on synthetic pairs, test on real subjects, write ``scores.json``."""
    parser = options(__doc__)
    parser.add_argument("--pairs", type=int, default=400, help="synthetic cases")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--iterations", type=int, default=50, help="an epoch's")
    parser.add_argument("--processes", type=int, default=2, help="that preprocess")
    asked = parser.parse_args()
    with plain_refusals():
        check_empty(asked.out)
        pairs = SyntheticPairs(asked.release, n=asked.pairs, seed=asked.seed)  # every digest is checked first
        cohort, _ = read_apart(asked.test, asked.training)
        tested = some(cohort, asked.subjects, seed=asked.seed)
        # nnU-Net's raw folder. The same seed gives the same pairs, and more cost no more privacy.
        asked.out.mkdir(parents=True, exist_ok=True)
        pairs.write(asked.out / "raw", form="nnunet")
    print(drawn_from(pairs))

    spec = pairs.study.patch
    for name in ("raw", "preprocessed", "results"):
        os.environ[f"nnUNet_{name}"] = str(asked.out.resolve() / name)
    configuration = "2d" if spec.dimensions == 2 else "3d_fullres"
    plan(configuration=configuration, processes=asked.processes)
    [prepared] = (asked.out / "preprocessed").iterdir()
    long = {"epochs": asked.epochs, "iterations": asked.iterations}
    trainer = train(prepared, configuration=configuration, device=asked.device, **long)
    truths = write_cases(tested, spec, asked.out / "test")
    predict(Path(str(trainer.output_folder_base)), asked.out / "test", device=asked.device)

    found = scores(truths, asked.out / "test" / "predicted")
    low, high = bootstrap_interval(found, rng=np.random.default_rng(asked.seed))
    told = {"dice": float(np.mean(found)), "dice_interval": [low, high], "n_scans": len(found)}
    told |= {"trained_on": f"{asked.pairs} synthetic pairs, no real image", "covered_by_epsilon": False}
    (asked.out / "scores.json").write_text(json.dumps(told, indent=2) + "\n", encoding="utf-8")
    print(f"Dice {told['dice']:.3f} ({low:.3f} to {high:.3f})")
    print(who_tested(found, asked.test, asked.training))


if __name__ == "__main__":
    main()
