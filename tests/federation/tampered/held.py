"""A site that stays in the middle of a round for as long as the test wants.

``WILLIS_TEST_HELD`` is a folder. While it has ``hold-N``, the site's process waits in round N before its
work, and says so by ``at-N``.
"""

import os
import time
from pathlib import Path
from typing import Any

MODULE = "willis.client.training"
LONGEST_S = 300.0


def tamper(training: Any) -> None:
    folder, honest = Path(os.environ["WILLIS_TEST_HELD"]), training.train_round

    def held(order, settings):
        until = time.monotonic() + LONGEST_S
        while (folder / f"hold-{order.round}").exists() and time.monotonic() < until:
            (folder / f"at-{order.round}").touch()
            time.sleep(0.05)
        return honest(order, settings)

    training.train_round = held
