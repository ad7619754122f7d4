"""The measurements that ``willis bench`` knows."""

from collections.abc import Callable
from dataclasses import dataclass

from willis.simulations.benchmarks import critic_step, intake, pairs_per_second, traffic
from willis.simulations.benchmarks.report import Measured


@dataclass(frozen=True)
class Bench:
    """One measurement.

    Attributes:
        line: What it measures.
        run: Takes whether to be quick.
    """

    line: str
    run: Callable[[bool], Measured]


BENCHES = {
    "critic-step": Bench("a private critic step beside the non-private one and peers", critic_step.run),
    "intake": Bench("headers of an export a second, beside pydicom's plain loop and dcm2niix", intake.run),
    "pairs-per-second": Bench("labelled pairs a second, one by one beside batched", pairs_per_second.run),
    "traffic": Bench("bytes and seconds of a round between processes, and the floor below", traffic.run),
}
