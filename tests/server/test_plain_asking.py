"""What a site has does not travel again; what it lost is sent whole; the model is the same either way."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flwr.app import Message, UserConfig

from willis.client import training
from willis.client.app import app as client_app
from willis.client.held_order import held_arrays
from willis.client.site import SiteSettings
from willis.server.checkpoint import Checkpoint
from willis.server.rounds import run_rounds
from willis.shared.networks.start import arrays_of, initial_generator
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation
from willis.shared.study import Study
from willis.shared.update import RoundOrder, SiteAnswer, floating
from willis.simulations.local_grid import LocalGrid

SPENT = PrivacySpent(
    epsilon=1.0, delta=1e-3, unit=PrivacyUnit.SUBJECT, relation=Relation.ADD_OR_REMOVE, accountant="pld"
)


class Scales(LocalGrid):
    """A grid that weighs what is sent: names of the arrays that travel, by message."""

    def __init__(self, nodes: list[UserConfig]) -> None:
        super().__init__(client_app, nodes, workers=1)
        self.sent: list[set[str]] = []

    def push_messages(self, messages):
        for message in (messages := list(messages)):
            if message.metadata.message_type == "train":
                self.sent.append(set(self._names(message)))
        return super().push_messages(messages)

    @staticmethod
    def _names(message: Message) -> list[str]:
        return list(message.content.array_records["generator"])


@pytest.fixture
def standing_still(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sites whose answers move nothing: the model of every round is that of the first."""

    def answer(order: RoundOrder, settings: SiteSettings) -> SiteAnswer:
        (settings.state / "runs" / order.run).mkdir(parents=True, exist_ok=True)
        return SiteAnswer(
            arrays={name: np.zeros_like(value) for name, value in floating(order.arrays).items()},
            site=settings.name,
            round=order.round,
            order_digest=order.digest(),
            spent=SPENT,
            ledger_head="0",
        )

    monkeypatch.setattr(training, "train_round", answer)


@pytest.fixture
def nodes(tmp_path: Path) -> list[UserConfig]:
    """Two sites' configurations."""
    made: list[UserConfig] = []
    for name in ("site-a", "site-b"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "site.toml").write_text(
            f'name = "{name}"\ncohort = "cohort.csv"\nstate = "."\nepsilon_cap = 8.0\ndelta = 1e-3\n'
        )
        made.append({"site-settings": str(folder / "site.toml")})
    return made


def run(grid: LocalGrid, study: Study, folder: Path, **more) -> Checkpoint:
    return run_rounds(
        grid, study, folder=folder, initial=arrays_of(initial_generator(study)), patience_s=0, **more
    )


@pytest.mark.usefixtures("standing_still")
def test_the_first_order_travels_whole_and_what_stands_still_never_again(
    tmp_path: Path, nodes: list[UserConfig], tiny_study: Callable[..., Study]
) -> None:
    grid = Scales(nodes)
    state = run(grid, tiny_study(), tmp_path / "run")
    everything = set(state.model)
    assert grid.sent[:2] == [everything, everything]
    assert grid.sent[2:] == [set()] * 4  # two more rounds of two sites
    for node in nodes:
        held = held_arrays(Path(str(node["site-settings"])).parent / "runs" / state.run)
        assert held.keys() == everything


@pytest.mark.usefixtures("standing_still")
def test_a_site_that_lost_its_order_gets_it_whole_in_the_same_round(
    tmp_path: Path, nodes: list[UserConfig], tiny_study: Callable[..., Study]
) -> None:
    grid = Scales(nodes)

    def lose(record) -> None:
        if record.round == 1:
            [path] = (tmp_path / "site-a").rglob("order.safetensors")
            path.write_bytes(b"torn")

    state = run(grid, tiny_study(), tmp_path / "run", on_round=lose)
    everything = set(state.model)
    assert [len(names) for names in grid.sent] == [len(everything)] * 2 + [0, 0, len(everything), 0, 0]
    assert [record.answered for record in state.history] == [("site-a", "site-b")] * 3


@pytest.mark.usefixtures("keys_by_round")
def test_a_study_that_moves_comes_to_the_same_model_where_every_order_travels_whole(
    tmp_path: Path, tiny_study: Callable[..., Study], phantom_cohort: Callable[..., Path], monkeypatch
) -> None:
    from willis.client.cohort import read_cohort
    from willis.client.site import read_site
    from willis.client.store import build_store
    from willis.server import plain_asking

    study, table, models = tiny_study(), phantom_cohort(), []
    for trial in ("saving", "whole"):
        if trial == "whole":
            monkeypatch.setattr(plain_asking, "digests_of", lambda arrays: {})
        made: list[UserConfig] = []
        for name in ("site-a", "site-b"):
            folder = tmp_path / trial / name
            folder.mkdir(parents=True)
            (folder / "site.toml").write_text(
                f'name = "{name}"\ncohort = "{table}"\nstate = "."\nepsilon_cap = 8.0\ndelta = 1e-3\n'
            )
            settings = read_site(folder / "site.toml")
            build_store(read_cohort(table).at(name), study.patch, settings.store, seed=study.seed)
            made.append({"site-settings": str(folder / "site.toml")})
        models.append(run(LocalGrid(client_app, made, workers=1), study, tmp_path / trial / "run").model)
    assert models[0].keys() == models[1].keys()
    for name, value in models[0].items():
        np.testing.assert_array_equal(value, models[1][name])
