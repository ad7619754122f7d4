"""What the log keeps of a line that a training process printed: Willis' and Flower's words, no library's.

A warning, a print or a traceback can name a patient's file. Of such a line stay its kind of error, the place
in the code, and how long it was.
"""

import json
import re
from pathlib import Path
from typing import Any

_COLOURS = re.compile(r"\x1b\[[0-9;]*m")
_FLOWER = re.compile(
    r"(?:INFO|WARNING|ERROR|DEBUG) *: *"
    r"(?:Starting Flower SuperExec|Start `flwr-clientapp` process|SuperExec terminated gracefully\.)?"
)
_KIND = re.compile(r"(?:\S+\.py:\d+: )?(?:\w+\.)*([A-Z]\w*(?:Error|Exception|Warning|Interrupt|Exit))(?::|$)")
_PLACE = re.compile(r'\s*File "([^"]+\.py)", line (\d+)|(\S+\.py):(\d+): ')
_OWN = {"refused", "error", "at"}  # of client.wall


def retold(line: str) -> dict[str, Any]:
    """Return what may be logged of a line.

    Returns:
        The wall's own facts as they are; ``text`` where it is one of Flower's sentences; else ``withheld``,
        its number of characters, with ``error`` and ``place`` where there are any.
    """
    plain = _COLOURS.sub("", line).rstrip()
    if (facts := _facts(plain)) is not None:
        return facts
    if _FLOWER.fullmatch(plain):
        return {"text": plain}
    told: dict[str, Any] = {"withheld": len(plain)}
    if kind := _KIND.match(plain):
        told["error"] = kind[1]
    if place := _PLACE.match(plain):
        file, number = place[1] or place[3], place[2] or place[4]
        told["place"] = f"{Path(file).name}:{number}"
    return told


def _facts(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    return found if isinstance(found, dict) and set(found) == _OWN else None
