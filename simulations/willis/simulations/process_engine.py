"""The same study between processes: a real hub and real sites on this machine, with TLS and keys.

Everything that a federation has is there: ``hub/`` is a hub's folder, every ``sites/NAME/`` a site's; the hub
and each site are the commands that organisations run. Nothing listens but on the loopback.
"""

import json
import tomllib
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address
from pathlib import Path

from willis.client.node.keys import make_keys
from willis.server.checkpoint import Checkpoint, RoundRecord, load
from willis.server.hub.control import start_run
from willis.server.hub.folder import HubFolder, make_hub, open_hub
from willis.server.hub.programs import how_it_is
from willis.server.hub.runs import HubRun
from willis.server.hub.settings import HubSettings
from willis.server.hub.sites import register_site
from willis.server.hub.start import wait_for
from willis.shared.errors import Unreachable
from willis.shared.processes import Keeper, Program, flower_environment, free_port, script
from willis.shared.study import read_study
from willis.shared.whole_file import make_folder, write_whole

_START_S = 180.0


def run_with_processes(
    study_path: Path,
    folder: Path,
    *,
    sites: Path,
    resume: bool = False,
    on_round: Callable[[RoundRecord], None] = lambda record: None,
) -> Checkpoint:
    """Run a study's rounds, and publish its release, between processes.

    Args:
        study_path: The study's TOML.
        folder: The run's folder; the hub's is ``hub/`` in it, what the commands print goes to ``logs/``.
        sites: Folder with NAME/site.toml for every site of the study, patches cut.
        resume: Continue the run in the folder.
        on_round: Called with every round's record.

    Returns:
        Where the run stands after its last round.

    Raises:
        Unreachable: nginx is not installed, or a program did not start; the log's place is in the message.
        WillisError: What the coordinator raised, of the same kind.
    """
    study, folder = read_study(study_path), folder.resolve()
    hub = _hub_in(folder)
    keys = [_site_of(hub, sites.resolve() / site.name, site.name) for site in study.federation.sites]
    keeper = Keeper(_programs(hub, folder, [key.parent for key in keys]))
    try:
        keeper.start(patience_s=_START_S)
        for key in keys:
            register_site(hub, key.stem, key)
        run = HubRun(folder, study)
        (folder / "server" / "failure.json").unlink(missing_ok=True)
        config = {"study": study_path.resolve(), "run": folder, "publish": True, "resume": resume}
        run.add_flower_run(start_run(hub, config))
        wait_for(hub, run, on_round=on_round)
    except TimeoutError as fault:
        raise Unreachable(str(fault)) from fault
    finally:
        keeper.stop()
    return load(folder / "server", study_digest=study.digest())


def _hub_in(folder: Path) -> HubFolder:
    path = folder / "hub"
    if (path / "hub.toml").exists():
        return open_hub(path)
    local = IPv4Address("127.0.0.1")
    settings = HubSettings(host="localhost", port=free_port(), listen=local, inner_port=free_port())
    return make_hub(path, settings)


def _site_of(hub: HubFolder, folder: Path, name: str) -> Path:
    """Give a simulated site what its node needs: hub and key; return the public key's file."""
    make_keys(folder, name)
    path = folder / "site.toml"
    text = path.read_text(encoding="utf-8")
    if "hub" not in tomllib.loads(text):
        ca = json.dumps(str(hub.authority[1]))
        link = f'\n[hub]\naddress = "{hub.settings.address}"\nca = {ca}\n'
        write_whole(path, (text + link).encode())
    return folder / f"{name}.pub"


def _programs(hub: HubFolder, folder: Path, sites: Sequence[Path]) -> list[Program]:
    logs = folder / "logs"
    make_folder(logs)
    environment = flower_environment(folder / "flwr")
    up = Program(
        "hub",
        (script("willis"), "hub", "up", str(hub.path)),
        environment,
        logs / "hub.jsonl",
        ready=lambda: how_it_is(hub) is not None,
    )
    nodes = [
        Program(
            site.name,
            (script("willis"), "site", "run", str(site)),
            environment,
            logs / f"{site.name}.jsonl",
        )
        for site in sites
    ]
    return [up, *nodes]
