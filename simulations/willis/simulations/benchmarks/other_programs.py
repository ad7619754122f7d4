"""How much of the machine other programs took while something was measured."""

import os
import time
from pathlib import Path

_STAT = Path("/proc/stat")  # proc_stat(5)
_TICKS = 100.0  # a second: USER_HZ, the same on every Linux that torch is built for


class OtherPrograms:
    """Processor time from now on that neither this process nor one of its ended children used."""

    def __init__(self) -> None:
        self._began = self._now()

    def share(self) -> float | None:
        """Return the share of all cores that others used, 0 to 1; None where the system does not tell."""
        now = self._now()
        if now is None or self._began is None:
            return None
        wall, busy, own = (late - early for late, early in zip(now, self._began, strict=True))
        return min(1.0, max(0.0, (busy - own) / (wall * (os.cpu_count() or 1))))

    def sentence(self) -> str:
        """Say it on one line."""
        share = self.share()
        if share is None:
            return "What other programs did meanwhile is not known."
        return f"Other programs took {share:.0%} of the cores meanwhile."

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Return seconds: by the clock, busy (all cores), and of this process with its ended children."""
        if not _STAT.exists():
            return None
        user, nice, system, _, _, interrupts, soft, *_ = map(
            int, _STAT.read_text().split("\n")[0].split()[1:]
        )
        return (
            time.monotonic(),
            (user + nice + system + interrupts + soft) / _TICKS,
            sum(os.times()[:4]),
        )
