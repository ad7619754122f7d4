"""A cell's training through the real machinery: the two Flower apps, the round loop, ledgers, a release.

Hospitals' patches are shared by all cells of a data set; ledger, law and memory are a cell's own. A ledger
that several cells shared would refuse the second one, as it should.
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from flwr.app import UserConfig

from willis.client.app import app as client_app
from willis.client.site import SiteSettings, read_site
from willis.server.checkpoint import latest_round
from willis.server.publishing import publish
from willis.server.rounds import run_rounds
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import GeneratorRelease, read_release
from willis.shared.study import Study
from willis.simulations.hospitals import exchange_keys, law_of
from willis.simulations.local_grid import LocalGrid

_NONE: Mapping[str, str] = {}


def train_cell(study: Study, hospitals: Path, folder: Path) -> GeneratorRelease:
    """Run a study's rounds over prepared hospitals, from where they stand, and publish the release.

    Args:
        study: The cell's.
        hospitals: With NAME/patches and NAME/cohort.csv for every site.
        folder: The cell's own, with ledgers, checkpoints and the release.

    Raises:
        WillisError: What any round raises.
    """
    if (folder / "release").exists():
        return read_release(folder / "release")
    sites = [site.name for site in study.federation.sites]
    peers = _peers(study, folder)
    opened = [open_site(study, name, hospitals=hospitals, folder=folder, peers=peers) for name in sites]
    nodes: list[UserConfig] = [{"site-settings": str(site.state / "site.toml")} for site in opened]
    threads = torch.get_num_threads()
    try:
        run_rounds(
            LocalGrid(client_app, nodes),
            study,
            folder=folder,
            initial=recipe_of(study).start(),
            resume=latest_round(folder / "server") is not None,
        )
    finally:
        torch.set_num_threads(threads)  # a site's own law sets its threads
    return publish(folder, study)


def open_site(
    study: Study, name: str, *, hospitals: Path, folder: Path, peers: Mapping[str, str] = _NONE
) -> SiteSettings:
    """Return a site of a cell: the data set's patches, and a law of its own that allows this study alone.

    Args:
        study: The cell's.
        name: Of the site.
        hospitals: With NAME/patches.
        folder: The cell's own.
        peers: Under secure aggregation: every site's public key.
    """
    own = folder / "sites" / name
    own.mkdir(parents=True, exist_ok=True)
    shared = os.path.relpath(hospitals / name, own)
    if not (own / "patches").is_symlink():
        (own / "patches").symlink_to(Path(shared) / "patches", target_is_directory=True)
    law = law_of(study, name, cohort=f"{shared}/cohort.csv", peers=peers)
    (own / "site.toml").write_text(law, encoding="utf-8")
    return read_site(own / "site.toml")


def _peers(study: Study, folder: Path) -> dict[str, str]:
    """Return every site's public key under secure aggregation, made once for a cell; else none."""
    if study.federation.secure is None:
        return {}
    told = folder / "server" / "peers.json"
    if not told.exists():
        return exchange_keys(study, folder, folder / "sites")
    return json.loads(told.read_text(encoding="utf-8"))
