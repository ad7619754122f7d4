"""The sites that a hub knows: their public keys, and which of Flower's nodes each of them is."""

import json
from dataclasses import dataclass
from pathlib import Path

from willis.server.hub.control import list_nodes, register_node, unregister_node
from willis.server.hub.folder import HubFolder
from willis.server.hub.kit import check_name
from willis.shared.errors import StateError, StudyError
from willis.shared.secure_sum.identity import NodeIdentity
from willis.shared.whole_file import write_whole


@dataclass(frozen=True)
class RegisteredSite:
    """A site that may take part.

    Attributes:
        name: As registered.
        node: Number of Flower's node.
        public_key: One line of OpenSSH.
    """

    name: str
    node: str
    public_key: str


def register_site(hub: HubFolder, name: str, public_key: Path) -> RegisteredSite:
    """Let a site in: SuperLink answers to its key from now on, and knows it by its name.

    Edge cases:
        The same key under the same name again is answered with what is there.

    Raises:
        StateError: The name is taken by another key, the key by another name, or SuperLink refused.
        StudyError: It is no public key on P-384, most often a private one: that never leaves a site.
        Unreachable: The hub is not up.
    """
    check_name(name)
    line = _public_line(public_key)
    known = registered_sites(hub)
    if name in known and known[name].public_key == line:
        return known[name]
    if name in known:
        raise StateError(
            f"{name} is registered with another key; where that one is lost or was seen, "
            f"`willis hub unregister {hub.path} {name}` shuts it out, once no run of the site is at work"
        )
    taken = [site.name for site in known.values() if site.public_key == line]
    if taken:
        raise StateError(f"the key in {public_key} is {taken[0]}'s; every site makes its own")
    write_whole(hub.sites / f"{name}.pub", f"{line}\n".encode())
    node = register_node(hub, hub.sites / f"{name}.pub", name=name)
    write_whole(hub.sites / f"{name}.json", json.dumps({"node": node}).encode(), private=True)
    return RegisteredSite(name, node, line)


def unregister_site(hub: HubFolder, name: str) -> RegisteredSite:
    """Shut a site's key out: SuperLink answers to it no more, under any name, and the name is free again.

    Guarantees:
        What the site spent stays in the books of its runs: under another key it goes on from there.
        SuperLink forgets the node before the hub does, so that a call that was cut off can be made again.

    Edge cases:
        Nothing here looks for runs at work; the command does.

    Raises:
        StateError: No such site is registered, or SuperLink refused.
        Unreachable: The hub is not up.
    """
    known = registered_sites(hub)
    if name not in known:
        raise StateError(f'"{name}" is not registered; registered are {", ".join(known) or "none"}')
    if known[name].node in list_nodes(hub):
        unregister_node(hub, known[name].node)
    (hub.sites / f"{name}.json").unlink()
    (hub.sites / f"{name}.pub").unlink()
    return known[name]


def registered_sites(hub: HubFolder) -> dict[str, RegisteredSite]:
    """Return all registered sites by name.

    Raises:
        StateError: A file in ``sites/`` is damaged.
    """
    found = {}
    for path in sorted(hub.sites.glob("*.json")):
        try:
            node = str(json.loads(path.read_bytes())["node"])
            line = path.with_suffix(".pub").read_text(encoding="utf-8").strip()
        except (OSError, ValueError, KeyError, TypeError) as fault:
            raise StateError(f"{path} or its .pub is damaged: restore both from a backup") from fault
        found[path.stem] = RegisteredSite(path.stem, node, line)
    return found


def _public_line(path: Path) -> str:
    try:
        text = path.read_bytes()
    except OSError as fault:
        raise StateError(f"cannot read {path}: {fault.strerror}") from fault
    if b"PRIVATE KEY" in text:
        raise StudyError(
            f"{path} is a private key: it must not be here; make a new one at the site, send its .pub"
        )
    line = NodeIdentity.read(text).line()
    if not line.startswith("ecdsa-sha2-nistp384 "):
        raise StudyError(
            f"{path} must be on the curve P-384, got {line.split()[0]}; `willis site init` makes one"
        )
    return line
