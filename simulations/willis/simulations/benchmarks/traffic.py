"""Bytes and seconds of a round between real processes, beside the floor of bare TLS sockets in the same run.

A round sends a model down in float32 and gets as many numbers back from two sites, in float32 or float16.
Flower names what it stores by content, so two kinds of rounds ask what unchanged arrays cost: model and
answers of the round before, and answers of zeros (no weight moved). Bytes are what a relay in front of the
SuperLink carried for the SuperNodes, TLS included; the floor's payload takes the same way.
"""

import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from willis.simulations.benchmarks.report import Measured
from willis.simulations.benchmarks.traffic_app import SITES
from willis.simulations.benchmarks.traffic_federation import (
    Federation,
    authority_of,
    certificate_of,
    federation,
)
from willis.simulations.benchmarks.traffic_floor import Carried, raw_round

_COLUMNS = ("parameters", "answers", "arrays", "way", "up MB", "down MB", "seconds")
_BYTES = {"float32": 4, "float16": 2}
_QUICK, _FULL = ((100_000,), 1), ((1_000_000, 5_000_000), 3)  # parameters, rounds of each kind
_START_S, _ROUND_S = 120.0, 60.0  # the most that a start and a round may take, on average


@dataclass(frozen=True)
class Kind:
    """One kind of round.

    Attributes:
        parameters: Numbers that go down to every site, and come back.
        precision: What they come back in.
        arrays: ``changed``; ``as before``: those of the round before, both ways; ``held``: the model is
            that of the round before, and travels as Willis sends it, by digest; ``zeros``: what goes down is
            new, and zeros come back.
    """

    parameters: int
    precision: str
    arrays: Literal["changed", "as before", "held", "zeros"]


def run(quick: bool = False) -> Measured:
    """Measure 1M and 5M parameters, three rounds of each kind; ``quick`` takes 100k and one round."""
    sizes, repeats = _QUICK if quick else _FULL
    how = (
        f"A round of {SITES} sites on the loopback, all sites together; medians of {repeats} alternating "
        "rounds. The model goes down in float32. Flower: SuperLink with TLS, SuperNodes, and an app that "
        "trains nothing: its seconds are polling, process starts and transfer. As before: model and answers "
        "are those of the round before, sent whole. Held: the model is that of the round before, and Willis "
        "names it by digest. Zeros: the model is new, and no weight moved. Bare TLS: the same "
        "payload through sockets, after Flower's rounds. One relay counts the bytes of both. MB is 10^6."
    )
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(Path(folder).resolve(), sizes, repeats)
    return Measured("traffic", how, _COLUMNS, rows)


def _measure(folder: Path, sizes: Sequence[int], repeats: int) -> list[list]:
    kinds = [kind for size in sizes for kind in _kinds(size)]
    rows = []
    with federation(folder) as flower:
        carried = _through_flower(flower, kinds, repeats)
        for kind in kinds:
            rows.append(_row(kind, "Flower", carried[kind]))
            if kind.arrays == "changed":
                rows.append(_row(kind, "bare TLS", [_floor(folder, kind) for _ in range(repeats)]))
    return rows


def _kinds(size: int) -> list[Kind]:
    whole = [Kind(size, "float32", arrays) for arrays in ("changed", "as before", "held", "zeros")]
    return [*whole, Kind(size, "float16", "changed")]


def _through_flower(flower: Federation, kinds: Sequence[Kind], repeats: int) -> dict[Kind, list[Carried]]:
    warm = Kind(1_000, "float32", "changed")
    order = [warm, *list(kinds) * repeats]
    noted = flower.run(_plan(order, flower.folder), timeout_s=_START_S + _ROUND_S * len(order))
    carried: dict[Kind, list[Carried]] = {}
    for kind, seen in zip(order, noted, strict=True):
        of_round = Carried(
            up=flower.relay.up.between(seen["begun"], seen["settled"]),
            down=flower.relay.down.between(seen["begun"], seen["settled"]),
            seconds=seen["ended"] - seen["begun"],
        )
        carried.setdefault(kind, []).append(of_round)
    return carried


def _plan(order: Sequence[Kind], folder: Path) -> list[dict[str, object]]:
    """Return what the coordinator is asked for; a model "as before" or "held" has the seed of the one before.

    A site keeps the model where the next round is "held".
    """
    plan: list[dict[str, object]] = []
    seed = answer_seed = 0
    following = [*order[1:], None]
    for kind, after in zip(order, following, strict=True):
        seed += kind.arrays not in ("as before", "held")
        answer_seed += kind.arrays != "as before"
        plan.append(
            {
                "parameters": kind.parameters,
                "precision": kind.precision,
                "seed": seed,
                "answer_seed": answer_seed,
                "zeros": kind.arrays == "zeros",
                "held": kind.arrays == "held",
                "hold": after is not None and after.arrays == "held",
                "folder": str(folder),
            }
        )
    return plan


def _floor(folder: Path, kind: Kind) -> Carried:
    return raw_round(
        sites=SITES,
        down=kind.parameters * _BYTES["float32"],
        up=kind.parameters * _BYTES[kind.precision],
        certificate=certificate_of(folder),
        authority=authority_of(folder),
    )


def _row(kind: Kind, way: str, rounds: Sequence[Carried]) -> list:
    up, down, seconds = (
        statistics.median(getattr(one, name) for one in rounds) for name in ("up", "down", "seconds")
    )
    return [kind.parameters, kind.precision, kind.arrays, way, up / 1e6, down / 1e6, seconds]
