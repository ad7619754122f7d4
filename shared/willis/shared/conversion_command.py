"""``willis convert``: a release's network as one program for other engines."""

from pathlib import Path

import click


@click.command()
@click.argument("release", type=click.Path(path_type=Path))
@click.option(
    "--to",
    "form",
    type=click.Choice(["onnx", "pt2"]),
    required=True,
    help="onnx: for onnxruntime and others (needs willis[onnx]). pt2: for torch.export.load.",
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True, help="A new file.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")
def convert(release: Path, *, form: str, out: Path, as_json: bool) -> None:
    """Write the network of a RELEASE as one program: dice in, labelled patches out.

    Only releases that draw from a network alone can be converted; others draw by their own script.

    \b
    Example: willis convert runs/demo/release --to onnx --out generator.onnx
    """
    import json

    from willis.shared.release import read_release
    from willis.shared.release_conversion import convert_release

    found = read_release(release)
    path = convert_release(found, out, form="onnx" if form == "onnx" else "pt2")
    if as_json:
        spent = {"privacy": found.spent.model_dump(mode="json"), "privacy_sentence": found.spent.sentence()}
        click.echo(json.dumps({"path": str(path), "form": form, "release": found.digest} | spent))
        return
    click.echo(f"{path}: latent vectors in, labelled patches out")
    click.echo(f"Privacy: {found.spent.sentence()}")
