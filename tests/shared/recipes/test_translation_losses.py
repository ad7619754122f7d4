"""The losses of translators, critics and the generator of maps, on networks whose answers are known."""

import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from willis.shared.game_plans import CycleganPlan, Pix2PixPlan
from willis.shared.networks.critic import Critic
from willis.shared.recipes.game.penalty import gradient_penalty
from willis.shared.recipes.translation import image_players, map_players
from willis.shared.recipes.translation.image_players import CyclicPlayers, PairedPlayers, off
from willis.shared.recipes.translation.map_players import MapPlayers, map_networks
from willis.shared.recipes.translation.maps import semantic_map


class Says(nn.Module):
    """Answers the same in every pixel of so many channels, whatever it is shown."""

    def __init__(self, value: float, channels: int = 1) -> None:
        super().__init__()
        self.value, self.channels = nn.Parameter(torch.tensor(value)), channels

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        return self.value.expand(len(shown), self.channels, *shown.shape[2:])


class Shows(nn.Module):
    """Answers with the first channels of what it is shown, doubled."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain, self.channels = nn.Parameter(torch.tensor(2.0)), channels

    def forward(self, shown: torch.Tensor) -> torch.Tensor:
        return self.gain * shown[:, :1].expand(-1, self.channels, *shown.shape[2:])


def dice(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def flat(value: float, channels: int) -> torch.Tensor:
    return torch.full((3, channels, 8, 8), float(value))


def test_least_squares_by_hand():
    assert_close(off(torch.tensor([0.0, 1.0, 3.0]), 1.0), torch.tensor(5 / 3))


def test_pix2pix_by_hand():
    # The critic says 0.25 of all: (0.75^2 + 0.25^2) / 2. The translator paints 0.5 where -0.1 is.
    players = {"critic": Says(0.25), "translator": Says(0.5)}
    plan = Pix2PixPlan(name="pix2pix", l1=10)
    losses = PairedPlayers(plan, players).losses(flat(-1, 2), flat(-0.1, 1), dice())
    assert_close(losses["critic"], torch.tensor(0.3125))
    assert_close(losses["translator"], torch.tensor(0.75**2 + 10 * 0.6))


def test_the_critic_of_pix2pix_sees_the_map():
    """A critic that scores an image by its map's level, here 0.5, doubles it to 1: no loss on real ones."""
    players = {"critic": Shows(1), "translator": Says(0.0)}
    losses = PairedPlayers(Pix2PixPlan(name="pix2pix"), players).losses(flat(0.5, 2), flat(0, 1), dice())
    assert_close(losses["critic"], torch.tensor((0 + 1) / 2))
    assert_close(losses["translator"], torch.tensor(0.0), msg="1 - 1, and 0 where 0 is")


def test_cyclegan_by_hand():
    players = {
        "critic": Says(0.25),
        "translator": Says(0.5),
        "back-critic": Says(0.6),
        "back-translator": Says(-0.5, 2),
    }
    plan = CycleganPlan(name="cyclegan", cycle=3, agreement=2)
    losses = CyclicPlayers(plan, players).losses(flat(-1, 2), flat(-0.1, 1), dice())
    assert_close(losses["critic"], torch.tensor(0.3125))
    assert_close(losses["back-critic"], torch.tensor((0.4**2 + 0.6**2) / 2))
    # There and back an image of -0.1 becomes 0.5, and a map of -1 becomes -0.5; a level of -1 is drawn 0.5.
    joint = torch.tensor(0.75**2 + 0.4**2 + 3 * (0.6 + 0.5) + 2 * 1.5)
    assert_close(losses["translator"], joint)
    assert_close(losses["back-translator"], joint)


def test_cyclegan_compares_no_image_with_its_own_map(tiny_study, monkeypatch):
    """In another order the maps of a unit give the same losses, each with the noise it had."""
    study = tiny_study(recipe={"name": "cyclegan"}, training={"protocol": "pooled", "critic_steps": 1})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        networks = image_players.image_networks(study)
    players = CyclicPlayers(CycleganPlan(name="cyclegan"), networks)
    maps = torch.where(torch.rand(3, 2, 16, 16, generator=dice(1)) > 0.5, 1.0, -1.0)
    images = torch.rand(3, 1, 16, 16, generator=dice(2))
    noises = torch.randn(2, 3, 1, 16, 16, generator=dice(3))
    losses = []
    for order in ([0, 1, 2], [2, 0, 1]):
        thrown = iter([noises[0][order], noises[1]])
        monkeypatch.setattr(image_players, "noise_for", lambda *_, thrown=thrown: next(thrown))
        losses.append(players.losses(maps[order], images, dice()))
    for player, loss in losses[0].items():
        assert_close(loss, losses[1][player], msg=lambda text, player=player: f"{player}: {text}")
    assert losses[0]["critic"] > 0


def linear_critic() -> Critic:
    """A score that is linear in 8 x 8 pixels of two channels, with a gradient of length 0.1 * sqrt(128)."""
    critic = Critic(size=(8, 8), channels=2, width=1, depth=0)
    nn.init.constant_(critic.score.weight, 0.1)
    nn.init.constant_(critic.score.bias, 0.3)
    return critic


def test_the_penalty_of_a_linear_critic_is_known():
    penalty = gradient_penalty(linear_critic(), flat(1, 2), flat(-1, 2), dice())
    assert_close(penalty, torch.tensor((0.1 * math.sqrt(128) - 1) ** 2))


def test_the_penalty_is_taken_between_each_pair():
    """Of |x|^2 / 2 the gradient is x: its length tells where between the pair it was taken."""
    seen = []

    def critic(patches: torch.Tensor) -> torch.Tensor:
        seen.append(patches.detach())
        return (patches**2).flatten(1).sum(dim=1) / 2

    penalty = gradient_penalty(critic, flat(1, 2), flat(3, 2), dice())
    (between,) = seen
    values = between[:, 0, 0, 0]
    assert bool(((values > 1) & (values < 3)).all())
    assert len(set(values.tolist())) == 3, "a place of its own for each pair"
    assert_close(between, values.reshape(3, 1, 1, 1).expand_as(between), msg="one place a pair")
    assert_close(penalty, ((values * math.sqrt(128) - 1) ** 2).mean())


def test_the_critic_of_maps_by_hand(tiny_study):
    study = tiny_study(
        patch={"size": [8, 8]},
        networks={"depth": 1},
        recipe={"name": "pix2pix", "map_penalty": 2},
        training={"protocol": "pooled", "critic_steps": 1},
    )
    with torch.random.fork_rng(devices=[]):
        networks = map_networks(study) | {map_players.MAP_CRITIC: linear_critic()}
    assert isinstance(study.recipe, Pix2PixPlan)
    players = MapPlayers(study, study.recipe, networks)
    penalty = (0.1 * math.sqrt(128) - 1) ** 2
    private = players.private(flat(-1, 2), dice())["map-critic"]
    assert_close(private, torch.tensor(-(0.3 - 0.1 * 128) + 2 * penalty))
    # The same dice make the same fakes, on which the generator wants what the critic does not.
    public, free = players.public(dice(1))["map-critic"], players.free(dice(1))["map-generator"]
    assert_close(free, -public)
    assert public.requires_grad


@pytest.mark.parametrize("name", ["pix2pix", "spade", "cyclegan"])
def test_maps_are_what_the_losses_are_of(tiny_study, name):
    """The recipe's vector is the gradient of these losses on the maps of the unit's patches."""
    from willis.shared.recipes.translation.game import TranslationGame

    study = tiny_study(
        recipe={"name": name, "levels": 3, "blur": 1, "maps": "prior"},
        training={"protocol": "pooled", "critic_steps": 1},
    )
    game = TranslationGame(study, study.recipe)
    patches = 2 * torch.rand(2, 2, 16, 16, generator=dice()) - 1
    patches[:, 1] = torch.where(patches[:, 1] > 0, 1.0, -1.0)
    maps = semantic_map(patches, levels=3, blur=1)
    players = (
        CyclicPlayers(study.recipe, game.players)
        if isinstance(study.recipe, CycleganPlan)
        else PairedPlayers(study.recipe, game.players)
    )
    expected = players.losses(maps, patches[:, :1], dice(5))
    found = game.private(patches, dice(5))
    assert set(found) == set(game.asked) == set(expected)
    for player, loss in found.items():
        assert_close(loss, expected[player])
