"""How a measurement is kept: JSON for machines, a table for people, the machine named in both."""

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch


@dataclass(frozen=True)
class Measured:
    """What one run of a measurement found.

    Attributes:
        name: Of the measurement.
        how: What was done, for a reader.
        columns: Of the rows.
        rows: One list of values a row.
        machine: Where; filled in.
    """

    name: str
    how: str
    columns: tuple[str, ...]
    rows: list[list[Any]]
    machine: dict[str, str] = field(default_factory=lambda: machine())

    def values(self) -> dict[str, Any]:
        """Return plain values."""
        return asdict(self)


def machine() -> dict[str, str]:
    """Return processor, accelerator, threads, versions and the day."""
    return {
        "processor": _processor(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "threads": str(torch.get_num_threads()),
        "cores": str(os.cpu_count()),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "opacus": version("opacus"),
        "day": datetime.now(UTC).date().isoformat(),
    }


def as_markdown(result: Measured) -> str:
    """Return a table that a person reads."""
    lines = [f"## {result.name}", "", result.how, ""]
    lines += ["| " + " | ".join(result.columns) + " |", "| --- " * len(result.columns) + "|"]
    lines += ["| " + " | ".join(_shown(value) for value in row) + " |" for row in result.rows]
    lines += ["", ", ".join(f"{key} {value}" for key, value in result.machine.items())]
    return "\n".join(lines) + "\n"


def write(result: Measured, folder: Path) -> None:
    """Write NAME.json and NAME.md into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{result.name}.json").write_text(
        json.dumps(result.values(), indent=1) + "\n", encoding="utf-8"
    )
    (folder / f"{result.name}.md").write_text(as_markdown(result), encoding="utf-8")


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
