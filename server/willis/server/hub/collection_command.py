"""``willis hub serve | invite | uninvite``: releases for collectors."""

import json
from pathlib import Path

import click

_hub = click.argument("folder", metavar="HUB", type=click.Path(path_type=Path, file_okay=False))
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of sentences.")


@click.command(epilog="Example: willis hub serve hub --port 8444 --listen 0.0.0.0")
@_hub
@click.option("--port", type=click.IntRange(1, 65535), help="For tokens; hub.toml says where none is given.")
@click.option("--certificate-port", type=click.IntRange(1, 65535), help="For client certificates; as --port.")
@click.option("--listen", help="Address of this machine to listen on; hub.toml says where none is given.")
@click.option("--check", is_flag=True, help="Ask the one that serves whether it does, and end.")
def serve(
    folder: Path, *, port: int | None, certificate_port: int | None, listen: str | None, check: bool
) -> None:
    """Serve the releases to those who were invited, until SIGTERM or Ctrl-C.

    A release that is not signed by this hub, or was changed, is not served.
    """
    from willis.server.hub.folder import HubFolder, open_hub
    from willis.server.hub.settings import HubSettings
    from willis.shared.errors import StateError
    from willis.shared.settings import parse

    there = open_hub(folder)
    values = there.settings.model_dump(mode="json")
    given = {"port": port, "certificate_port": certificate_port}
    values["collection"] |= {key: value for key, value in given.items() if value is not None}
    values |= {} if listen is None else {"listen": listen}
    hub = HubFolder(there.path, parse(values, HubSettings, where="the options", error=StateError))
    if check:
        from willis.server.hub.serving_check import check_serving

        check_serving(hub)
        return
    from willis.server.hub.serving import serve as serve_hub

    ports = hub.settings.collection
    click.echo(
        f"serving on {hub.settings.listen}: tokens at port {ports.port}, certificates at port "
        f"{ports.certificate_port}; SIGTERM or Ctrl-C stops it",
        err=True,
    )
    serve_hub(hub)


@click.command(epilog="Example: willis hub invite hub lab-a --out kits --days 90")
@_hub
@click.argument("name", metavar="NAME")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    required=True,
    help="Where a folder NAME is made.",
)
@click.option("--days", type=click.IntRange(1, 3650), default=90, show_default=True, help="Until it ends.")
@click.option("--certificate", is_flag=True, help="A client certificate instead of a token.")
@_json
def invite(folder: Path, name: str, *, out: Path, days: int, certificate: bool, as_json: bool) -> None:
    """Write a collector's kit; it holds a secret: hand it over as you would a password."""
    from willis.server.hub.collectors import invite as make_kit
    from willis.server.hub.folder import open_hub
    from willis.shared.release_signature import fingerprint, read_public_key

    hub = open_hub(folder)
    kit, made = make_kit(hub, name, out=out, days=days, certificate=certificate)
    told = fingerprint(read_public_key(hub.release_key[1]))
    until = made.until.isoformat()
    answer = {"kit": str(kit), "name": name, "proof": made.proof, "until": until, "release_key": told}
    sentence = f"Kit in {kit}, a {made.proof}, good until {until}.\nFingerprint of the release key: {told}"
    click.echo(json.dumps(answer) if as_json else sentence)


@click.command(epilog="Example: willis hub uninvite hub lab-a")
@_hub
@click.argument("name", metavar="NAME")
@_json
def uninvite(folder: Path, name: str, *, as_json: bool) -> None:
    """Take an invitation back; a hub that serves refuses it from a second later on."""
    from willis.server.hub.collectors import uninvite as take_back
    from willis.server.hub.folder import open_hub

    take_back(open_hub(folder), name)
    click.echo(json.dumps({"uninvited": name}) if as_json else f"{name} is no longer invited")
