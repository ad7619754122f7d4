"""``willis synthesize``: labelled patches from a release, for whoever trains on them."""

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

import click

from willis.shared.export.contrast import Suffix

if TYPE_CHECKING:
    from willis.shared.study import Study

Form = Literal["nnunet", "bids", "npz", "png"]


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option(
    "--n",
    type=click.IntRange(1, 10_000_000),
    required=True,
    help="Pairs of image and label, or whole volumes with theirs.",
)
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
    "--volume",
    "volume",
    metavar="SIZE",
    help="Whole volumes of this many voxels along each axis, such as 96x96x64, of overlapping 3-D patches. "
    'For recipes pix2pix, spade and cyclegan with maps = "prior", and dp-wgan with refiner = true.',
)
@click.option(
    "--overlap",
    type=click.FloatRange(0.25, 0.875),
    help="Share of a patch that its neighbour shows too, with --volume.  [default: 0.5]",
)
@click.option("--batch", type=click.IntRange(1), help="Pairs in memory at a time.  [default: 64]")
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
    form: Form,
    out: Path,
    volume: str | None,
    overlap: float | None,
    batch: int | None,
    device: str,
    png_bits: str | None,
    bids_suffix: Suffix | None,
    as_json: bool,
) -> None:
    """Draw labelled patches, or whole volumes, from a RELEASE that `willis simulate` or a coordinator made.

    Its digests are checked first. Drawing more costs no more privacy: the figure is the release's.

    \b
    Example: willis synthesize runs/demo/release --n 2000 --seed 1 --format nnunet --out syn
    """
    import json

    from rich.console import Console
    from rich.progress import Progress

    from willis.shared.networks.build import choose_device
    from willis.shared.release import read_release

    _check_options(form, volume, png_bits=png_bits, bids_suffix=bids_suffix, overlap=overlap, batch=batch)
    choose_device(device, "--device")
    found = read_release(release)
    size = None if volume is None else _size_of(volume, found.study)
    export = _pairs(form, batch, png_bits) if size is None else _volumes(form, size, overlap)
    with Progress(console=Console(stderr=True), disable=as_json) as bar:
        task = bar.add_task("drawing", total=n)
        where = export(
            found,
            out,
            n=n,
            seed=seed,
            device=device,
            progress=lambda done: bar.update(task, completed=done),
            bids_suffix=bids_suffix,
        )
    sentence = found.spent.sentence()
    if as_json:
        answer = {"path": str(where), "n": n, "seed": seed, "format": form, "release": found.digest}
        answer |= {} if size is None else {"volume": list(size), "overlap": overlap or _usual_overlap()}
        spent = {"privacy": found.spent.model_dump(mode="json"), "privacy_sentence": sentence}
        click.echo(json.dumps(answer | spent))
        return
    click.echo(f"{n} {'pairs' if size is None else 'volumes'} in {where}")
    click.echo(f"Privacy: {sentence}")


def _check_options(
    form: Form,
    volume: str | None,
    *,
    png_bits: str | None,
    bids_suffix: str | None,
    overlap: float | None,
    batch: int | None,
) -> None:
    """Refuse what means nothing beside the format, or beside patches or volumes."""
    for option, given, of in (("--png-bits", png_bits, "png"), ("--bids-suffix", bids_suffix, "bids")):
        if given is not None and form != of:
            raise click.UsageError(f"{option} goes with --format {of}, and --format is {form}")
    if overlap is not None and volume is None:
        raise click.UsageError("--overlap goes with --volume, and there is none: patches are drawn")
    if batch is not None and volume is not None:
        raise click.UsageError("--batch goes with patches, and --volume draws one volume at a time")


def _size_of(volume: str, study: "Study") -> tuple[int, int, int]:
    """Return the sides that ``--volume`` names."""
    from willis.shared.volumes import volume_spec

    sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})x(\d{1,5})", volume, re.ASCII)
    if sides is None:
        raise click.UsageError(f"--volume must be three whole numbers, such as 96x96x64, got {volume[:40]!r}")
    size = (int(sides[1]), int(sides[2]), int(sides[3]))
    try:
        volume_spec(study, size)
    except ValueError as fault:
        raise click.UsageError(f"--volume: {fault}") from fault
    return size


def _pairs(form: Form, batch: int | None, png_bits: str | None) -> Callable[..., Path]:
    from willis.shared.synthesis import export_pairs

    bits = None if png_bits is None else 16 if png_bits == "16" else 8
    return partial(export_pairs, form=form, batch=batch or 64, png_bits=bits)


def _volumes(form: Form, size: tuple[int, int, int], overlap: float | None) -> Callable[..., Path]:
    from willis.shared.volumes import export_volumes

    return partial(export_volumes, form=form, size=size, overlap=overlap or _usual_overlap())


def _usual_overlap() -> float:
    from willis.shared.volumes import OVERLAP

    return OVERLAP
