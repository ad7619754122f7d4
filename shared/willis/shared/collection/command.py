"""``willis collect``: look at the releases of a hub, fetch one, or draw pairs from it."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress

    from willis.shared.collection.description import SheetedRelease

_KIT = click.argument("kit", metavar="KIT", type=click.Path(path_type=Path, file_okay=False))
_RELEASE = click.argument("release", metavar="RELEASE")
_NEW = click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="A new or an empty folder.",
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")
_N = click.option("--n", type=click.IntRange(1, 10_000_000), required=True, help="Pairs of image and label.")
_SEED = click.option(
    "--seed", type=click.IntRange(0, 2**63 - 1), required=True, help="The same seed, the same pairs."
)


@click.group(epilog="Example: willis collect list kits/lab-a")
def collect() -> None:
    """The collector: releases of a hub, by a kit that the hub wrote with `willis hub invite`.

    Whatever comes is checked against the hub's signature first; nothing of it is run.
    """


@collect.command("list", epilog="Example: willis collect list kits/lab-a --json")
@_KIT
@_JSON
def list_releases(kit: Path, *, as_json: bool) -> None:
    """List what the hub of a KIT serves, in the hub's own words; `describe` checks them."""
    from willis.shared.collection.description import printable
    from willis.shared.collection.door import HubDoor
    from willis.shared.collection.kit import open_kit

    with HubDoor(open_kit(kit)) as door:
        found = [
            {
                "release": printable(one.name),
                "digest": printable(one.digest),
                "study": printable(one.study),
                "privacy": printable(one.privacy),
                "bytes": one.bytes,
            }
            for one in door.releases()
        ]
    lines = [
        f"{one['release']}: study {one['study']}, {one['bytes']} bytes\n  {one['privacy']}" for one in found
    ]
    lines.append("The hub's own words: `willis collect describe` compares them with what it signed.")
    click.echo(
        json.dumps({"releases": found}) if as_json else "\n".join(lines if found else ["No release yet."])
    )


@collect.command(epilog="Example: willis collect describe kits/lab-a demo-1 --json")
@_KIT
@_RELEASE
@_JSON
def describe(kit: Path, release: str, *, as_json: bool) -> None:
    """Tell what a RELEASE says of itself in its sheet, which the hub signed.

    A hub that says other things than the sheet is refused.
    """
    from willis.shared.collection.description import checked
    from willis.shared.collection.door import HubDoor
    from willis.shared.collection.kit import open_kit

    opened = open_kit(kit)
    with HubDoor(opened) as door:
        told = checked(door.describe(release), name=release, key=opened.release_key)
    if as_json:
        click.echo(json.dumps(_facts(told) | {"sheet": told.sheet}))
        return
    shape = " x ".join(map(str, told.image_shape))
    click.echo(f"{told.name}: study {told.study}, images of {shape}, signed by the hub")
    click.echo(f"Privacy: {told.privacy}")
    click.echo(f"Digest: {told.signed.digest}\nAt most {told.most_pairs} pairs in a draw")
    for name, size in sorted(told.sizes.items()):
        click.echo(f"  {size:>12} {name}")


@collect.command(epilog="Example: willis collect fetch kits/lab-a demo-1 --out release")
@_KIT
@_RELEASE
@_NEW
@_JSON
def fetch(kit: Path, release: str, *, out: Path, as_json: bool) -> None:
    """Fetch a RELEASE into a new folder; run again it goes on where it was cut.

    Signature and digests are verified before the folder has its name.
    """
    from willis.shared.collection.door import HubDoor
    from willis.shared.collection.fetching import fetch_release
    from willis.shared.collection.kit import open_kit

    with HubDoor(open_kit(kit)) as door, _bar(as_json) as bar:
        task = bar.add_task("fetching", total=None)
        told = fetch_release(
            door,
            release,
            out=out,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    if as_json:
        click.echo(json.dumps(_facts(told) | {"path": str(out)}))
        return
    click.echo(f"Release in {out}: signed by the hub, every digest as it says\nPrivacy: {told.privacy}")


@collect.command(epilog="Example: willis collect draw kits/lab-a demo-1 --n 500 --seed 1 --out pairs")
@_KIT
@_RELEASE
@_N
@_SEED
@click.option(
    "--first", type=click.IntRange(0), default=0, show_default=True, help="Number of the first pair."
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["npz"]),
    default="npz",
    show_default=True,
    help="npz: one compressed NumPy file.",
)
@click.option(
    "--batch", type=click.IntRange(1), default=64, show_default=True, help="Pairs in memory at a time."
)
@_NEW
@_JSON
def draw(
    kit: Path, release: str, *, n: int, seed: int, first: int, form: str, batch: int, out: Path, as_json: bool
) -> None:
    """Have the hub draw N pairs from a RELEASE into a new folder; neither weights nor torch are needed."""
    from willis.shared.collection.door import HubDoor
    from willis.shared.collection.kit import open_kit
    from willis.shared.collection.pair_file import write_pairs
    from willis.shared.collection.remote_pairs import RemotePairs

    with HubDoor(open_kit(kit)) as door, _bar(as_json) as bar:
        pairs = RemotePairs(door, release, n=n, seed=seed, first=first, batch=batch)
        task = bar.add_task("drawing", total=n)
        where = write_pairs(
            pairs, out, n=n, seed=seed, progress=lambda done: bar.update(task, completed=done)
        )
    if as_json:
        answer = {"path": str(where), "n": n, "seed": seed, "first": first, "format": form}
        click.echo(json.dumps(_facts(pairs.described) | answer))
        return
    click.echo(f"{n} pairs in {where}\nPrivacy: {pairs.described.privacy}")


def _bar(as_json: bool) -> "Progress":
    from rich.console import Console
    from rich.progress import Progress

    return Progress(console=Console(stderr=True), disable=as_json)


def _facts(told: "SheetedRelease") -> dict[str, object]:
    return {
        "release": told.name,
        "digest": told.signed.digest,
        "study": told.study,
        "privacy": told.privacy,
        "image_shape": list(told.image_shape),
        "most_pairs": told.most_pairs,
        "files": dict(told.sizes),
    }
