"""A network of the coordinator, and how it takes a step."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn

from willis.shared.networks.adapters import Adapter, Choice
from willis.shared.recipe_plans import DpWganPlan
from willis.shared.recipes.demands import plan_of
from willis.shared.recipes.flat_optimiser import Moments, descent
from willis.shared.study import Study


@dataclass
class Trainee:
    """A network that moves along an adapter's directions.

    Attributes:
        study: Its optimiser, and the adapter's rank, layers and seed.
        network: On its device.
        choice: Which directions.
        rate: Learning rate.
        moments: Of the optimiser, in the adapter's coordinates; on the CPU.
    """

    study: Study
    network: nn.Module
    choice: Choice
    rate: float
    moments: Moments

    @classmethod
    def fresh(cls, study: Study, network: nn.Module, choice: Choice, *, rate: float) -> "Trainee":
        """Return one that took no step."""
        length = adapter_of(study, network, choice).length
        return cls(study, network, choice, rate, Moments.none(length))

    @property
    def adapter(self) -> Adapter:
        """The directions, at the network's present weights."""
        return adapter_of(self.study, self.network, self.choice)

    def gradient(self, loss: Tensor) -> Float[Tensor, " coordinate"]:
        """Return the gradient of a loss in the adapter's coordinates, on the CPU."""
        return self.adapter.gradient(self.network, loss).cpu()

    def descend(self, gradient: Float[Tensor, " coordinate"]) -> None:
        """Take a step of the optimiser."""
        step, self.moments = descent(gradient, self.moments, plan=self.study.training, rate=self.rate)
        self.adapter.move(self.network, step.to(next(self.network.parameters()).device))


def adapter_of(study: Study, network: nn.Module, choice: Choice) -> Adapter:
    """Return the directions of a choice, with the rank, layers and seed of a dp-wgan study."""
    plan = plan_of(study, DpWganPlan)
    return Adapter(network, choice, rank=plan.rank, last=plan.last_layers, seed=study.seed)
