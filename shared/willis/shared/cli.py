"""``willis synthesize``: labelled patches from a release, for whoever trains on them."""

from pathlib import Path
from typing import Literal, get_args

import click

from willis.shared.export.contrast import Suffix


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option("--n", type=click.IntRange(1, 10_000_000), required=True, help="Pairs of image and label.")
@click.option("--seed", type=click.IntRange(0), required=True, help="The same seed, the same pairs.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["nnunet", "bids", "npz", "png"]),
    required=True,
    help="nnunet: a raw data set of nnU-Net v2 (NIfTI), with a data list that MONAI reads. bids: NIfTI as "
    "BIDS lays it out, labels as derivatives. npz: one compressed NumPy file. png: pictures, 2-D only.",
)
@click.option("--out", type=click.Path(path_type=Path), required=True, help="A new or an empty folder.")
@click.option(
    "--batch", type=click.IntRange(1), default=64, show_default=True, help="Pairs in memory at a time."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda"]),
    default="auto",
    show_default=True,
    help="auto takes CUDA where there is one.",
)
@click.option(
    "--png-bits", type=click.Choice(["8", "16"]), help="Of a pixel, with --format png.  [default: 8]"
)
@click.option(
    "--bids-suffix",
    type=click.Choice(get_args(Suffix)),
    help="The images' contrast, with --format bids.  [default: angio for vessels, FLAIR for lesions, T1w for "
    "organs]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")
def synthesize(
    release: Path,
    *,
    n: int,
    seed: int,
    form: Literal["nnunet", "bids", "npz", "png"],
    out: Path,
    batch: int,
    device: str,
    png_bits: str | None,
    bids_suffix: Suffix | None,
    as_json: bool,
) -> None:
    """Draw labelled patches from a RELEASE, a folder that `willis simulate` or a coordinator made.

    Its digests are checked first. Drawing more costs no more privacy: the figure is the release's.

    \b
    Example: willis synthesize runs/demo/release --n 2000 --seed 1 --format nnunet --out syn
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from willis.shared.networks.build import choose_device
    from willis.shared.release import read_release
    from willis.shared.synthesis import export_pairs

    for option, given, of in (("--png-bits", png_bits, "png"), ("--bids-suffix", bids_suffix, "bids")):
        if given is not None and form != of:
            raise click.UsageError(f"{option} goes with --format {of}, and --format is {form}")
    choose_device(device, "--device")
    found = read_release(release)
    with Progress(console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("drawing", total=n)
        where = export_pairs(
            found,
            out,
            n=n,
            seed=seed,
            form=form,
            batch=batch,
            device=device,
            progress=lambda done: bar.update(task, completed=done),
            png_bits=16 if png_bits == "16" else 8,
            bids_suffix=bids_suffix,
        )
    sentence = found.spent.sentence()
    if as_json:
        answer = {"path": str(where), "n": n, "seed": seed, "format": form, "release": found.digest}
        spent = {"privacy": found.spent.model_dump(mode="json"), "privacy_sentence": sentence}
        click.echo(json.dumps(answer | spent))
        return
    click.echo(f"{n} pairs in {where}")
    click.echo(f"Privacy: {sentence}")
