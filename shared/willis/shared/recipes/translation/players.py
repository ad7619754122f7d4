"""All networks of a translation, with first weights from the study's public seed."""

from torch import nn

from willis.shared.networks.build import public_generator, weights_from
from willis.shared.recipes.translation.image_players import (
    BACK_CRITIC,
    BACK_TRANSLATOR,
    CRITIC,
    TRANSLATOR,
    image_networks,
)
from willis.shared.recipes.translation.map_players import MAP_CRITIC, MAP_GENERATOR, map_networks
from willis.shared.recipes.translation.maps import Plan
from willis.shared.study import Study

# Critics first, in the order of an answer's coordinates.
_ASKED = (CRITIC, BACK_CRITIC, MAP_CRITIC, TRANSLATOR, BACK_TRANSLATOR)
_RELEASED = (TRANSLATOR, MAP_GENERATOR)


def build_players(study: Study, plan: Plan) -> dict[str, nn.Module]:
    """Return the networks by name, on the CPU; those of maps only where the plan's ``maps`` is ``gan``."""
    seed = public_generator(study.seed, "translation", "weights").initial_seed()
    with weights_from(seed):
        players = image_networks(study)
        return players | map_networks(study) if plan.maps == "gan" else players


def asked_of(players: dict[str, nn.Module]) -> tuple[str, ...]:
    """Return which of them meet patients."""
    return tuple(name for name in _ASKED if name in players)


def released_of(players: dict[str, nn.Module]) -> tuple[str, ...]:
    """Return which of them draw: the translator, and the generator of maps where there is one."""
    return tuple(name for name in _RELEASED if name in players)
