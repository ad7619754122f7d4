"""A hub that serves one release on the loopback: ``willis hub serve`` with TLS and a token, in a process."""

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from willis.server.hub.collectors import invite
from willis.server.hub.folder import HubFolder, make_hub
from willis.server.hub.programs import hub_environment
from willis.server.hub.serving_check import check_serving
from willis.server.hub.settings import HubSettings
from willis.server.signing import sign_as_hub
from willis.shared.collection.door import HubDoor
from willis.shared.collection.kit import open_kit
from willis.shared.errors import Unreachable
from willis.shared.privacy import PrivacySpent
from willis.shared.processes import Keeper, Program, free_port, script
from willis.shared.release import write_release
from willis.shared.study import Study

RUN = "bench-1"


@contextmanager
def served(
    folder: Path, study: Study, *, arrays: Mapping[str, np.ndarray], spent: PrivacySpent, cores: int
) -> Iterator[HubDoor]:
    """Serve weights for as long as the block lasts; yield a collector's connection.

    Args:
        folder: For the hub and the kit; empty.
        study: Of the weights.
        arrays: The weights.
        spent: What the release says that it cost.
        cores: That the hub draws on.

    Raises:
        TimeoutError: It did not serve within two minutes.
    """
    hub = _hub(folder / "hub")
    release = hub.runs / RUN / "release"
    write_release(
        release,
        study=study,
        arrays=dict(arrays),
        run=RUN,
        rounds=1,
        network=spent,
        spent={study.federation.sites[0].name: spent},
        ledger_heads={},
    )
    sign_as_hub(release.parent)
    kit, _ = invite(hub, "bench", out=folder / "kits", days=1)
    program = Program(
        name="serving",
        command=(sys.executable, script("willis"), "hub", "serve", str(hub.path)),
        environment=hub_environment(hub) | {"OMP_NUM_THREADS": str(cores)},
        log=folder / "serving.log",
        ready=lambda: _serves(hub),
    )
    keeper = Keeper([program])
    keeper.start(patience_s=120.0)
    try:
        with HubDoor(open_kit(kit)) as door:
            yield door
    finally:
        keeper.stop()


def _hub(folder: Path) -> HubFolder:
    ports = {"port": free_port(), "certificate_port": free_port(), "calls_a_minute": 100_000}
    values = {"host": "localhost", "listen": "127.0.0.1", "collection": ports}
    return make_hub(folder, HubSettings.model_validate(values))


def _serves(hub: HubFolder) -> bool:
    try:
        check_serving(hub)
    except Unreachable:
        return False
    return True
