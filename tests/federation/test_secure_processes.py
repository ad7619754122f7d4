"""Secure sums between processes: a site's node killed in every step; the sum is right, nothing lies open.

One federation for all. Its sums go without noise, so the one that the coordinator opened must be the plain
sum of the sites that it counts, computed here from their patches.
"""

import base64
import json
import shutil
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from living_federation import PATIENCE_S, Federation

from willis.client.chance import Chance
from willis.client.pooled_sum import unit_vectors
from willis.client.randomness import SecretRandom
from willis.client.site import read_site
from willis.client.store import PatchStore
from willis.client.training import accept
from willis.server.checkpoint import load
from willis.server.hub.runs import HubRun
from willis.shared.recipes.catalogue import recipe_of
from willis.shared.release import read_release
from willis.shared.update import RoundOrder

pytestmark = [pytest.mark.federation, pytest.mark.timeout(1200)]

NAMES = ("site-a", "site-b", "site-c")
STEPS = ("card", "sealed", "masked", "vow", "revealed")
SECURE = {
    "recipe": {"name": "dp-merf", "frequencies": 16, "steps": 2},
    "patch": {"flips": False},  # else dice turn patches, and two sums of the same are not the same
    "privacy": {"sampling_rate": 1.0, "clip_norm": 100.0},
    "training": {"protocol": "pooled", "rounds": 1, "critic_steps": 1, "patches_per_bag": 4},
    "federation": {
        "quorum": 2,
        "deadline_s": 90,
        "secure": {"colluders": 0},
        "sites": [{"name": name, "subjects": 6} for name in NAMES],
    },
}


@dataclass
class Watch:
    """What the sites' disks held while a run went on: what nobody else may ever read, and what all may.

    Attributes:
        whole: Secret keys and seeds.
        mask_shares: Shares of mask keys, by whose key it is.
        seed_shares: Shares of seeds, by whose seed it is.
        public: Public halves of mask keys, which the coordinator hands on.
        copies: Of the coordinator's database, one for every step of a site.
    """

    federation: Federation
    copies: Path
    whole: set[bytes] = field(default_factory=set)
    mask_shares: dict[str, set[bytes]] = field(default_factory=lambda: {name: set() for name in NAMES})
    seed_shares: dict[str, set[bytes]] = field(default_factory=lambda: {name: set() for name in NAMES})
    public: set[bytes] = field(default_factory=set)
    reached: dict[Path, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._old = set(self._files())

    def look(self) -> str | None:
        """Take in what lies there now; return the last step that site-a has written an answer to."""
        for path in self._files():
            if path in self._old:
                continue
            try:
                state = json.loads(base64.b64decode(json.loads(path.read_bytes())["site"]))
            except FileNotFoundError:  # an older attempt that the site has forgotten
                continue
            self._learn(path.relative_to(self.federation.folder).parts[0], state)
            step = [step for step in STEPS if state[step]][-1]
            if self.reached.get(path) != step:
                self.reached[path] = step
                self._copy()
        mine = [path for path in self.reached if path.is_relative_to(self.federation.sites["site-a"])]
        return self.reached[max(mine)] if mine else None

    def forbidden(self, survivors: list[str]) -> set[bytes]:
        """Return what no file of the others may hold: of a site that stayed its mask key's shares, of one
        that did not its seed's; the other kind is what the protocol opens."""
        found = set(self.whole)
        for name in NAMES:
            found |= (self.mask_shares if name in survivors else self.seed_shares)[name]
        return found

    def _files(self) -> list[Path]:
        places = self.federation.sites.values()
        return [path for place in places for path in sorted(place.glob("runs/*/secure-*.json"))]

    def _learn(self, site: str, state: dict) -> None:
        self.public.add(_bytes(state["card"]["mask_key"]))
        for key in ("mask_secret", "share_secret", "seed"):
            if state[key]:
                self.whole.add(_bytes(state[key]))
        if state["own_shares"]:
            mask_key, seed = state["own_shares"]
            self.mask_shares[site].add(_bytes(mask_key))
            self.seed_shares[site].add(_bytes(seed))
        for held, shares in (("held_mask_keys", self.mask_shares), ("held_seeds", self.seed_shares)):
            for owner, share in (state[held] or {}).items():
                shares[owner].add(_bytes(share))

    def _copy(self) -> None:
        place = self.copies / str(len(list(self.copies.iterdir())))
        place.mkdir()
        for path in self.federation.hub.path.glob("state.db*"):
            shutil.copy(path, place)


def _bytes(text: str) -> bytes:
    return base64.urlsafe_b64decode(text.replace("+", "-").replace("/", "_"))


def forms(secret: bytes) -> Iterator[bytes]:
    """Yield what a secret looks like where it lies open."""
    yield secret
    yield secret.hex().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).rstrip(b"=")


def holders(secrets: set[bytes], texts: list[tuple[Path, bytes]]) -> list[Path]:
    """Return the files that hold one of them, in any form."""
    return [path for path, text in texts if any(form in text for one in secrets for form in forms(one))]


@pytest.fixture(scope="module")
def federation(tmp_path_factory, tiny_study_file_in, phantom_cohort_in) -> Iterator[Federation]:
    folder = tmp_path_factory.mktemp("secure")
    study = tiny_study_file_in(folder, **SECURE)
    table = phantom_cohort_in(folder, subjects=6, sites=NAMES)
    with Federation(folder, study, table, tamper="no_noise").alive() as it:
        yield it


def disturbed(federation: Federation, watch: Watch, *, step: str) -> HubRun:
    """Run the study; kill site-a's node as soon as its answer of a step is written, before it has left."""
    run = federation.start()
    over, killed = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def attend() -> None:
        try:
            while not over.is_set():
                if watch.look() == step and not killed.is_set():
                    federation.kill("supernode@site-a")
                    killed.set()
                time.sleep(0.01)
        except BaseException as fault:
            faults.append(fault)

    hand = threading.Thread(target=attend)
    hand.start()
    try:
        ended = federation.finish(run)
    finally:
        over.set()
        hand.join(PATIENCE_S)
    assert faults == []
    assert killed.is_set(), f"site-a never came to its {step}"
    assert ended.path == run.path
    return run


def plain_mean(federation: Federation, run: HubRun, survivors: list[str]) -> np.ndarray:
    """Return the mean of all units of these sites, from their patches, in this process."""
    study, recipe = federation.study, recipe_of(federation.study)
    order = RoundOrder(
        study_json=study.model_dump_json(),
        study_digest=study.digest(),
        run=load(run.path / "server", study_digest=study.digest()).run,
        round=1,
        arrays=recipe.order(recipe.start(), number=1),
    )
    question = recipe.question(order.arrays, number=1)
    total = np.zeros(question.length)
    for name in survivors:
        _, store = accept(order, read_site(federation.sites[name] / "site.toml"))
        assert isinstance(store, PatchStore)
        assert store.n_subjects == 6
        chance = Chance.keyed(SecretRandom(bytes(32)))  # at rate 1, of whole bags, it decides nothing
        for vector in unit_vectors(question, store=store, study=study, chance=chance):
            total += vector.double().numpy()
    return total / (6 * len(survivors))


@pytest.mark.parametrize("step", STEPS)
def test_a_site_killed_in_any_step_of_a_secure_sum(federation, tmp_path, step):
    watch = Watch(federation, tmp_path)
    before = {name: len(federation.payments(name)) for name in NAMES}
    run = disturbed(federation, watch, step=step)

    opened = json.loads((run.path / "server" / "sum.json").read_bytes())
    survivors = opened["survivors"]
    assert {"site-b", "site-c"} <= set(survivors)
    if step in ("vow", "revealed"):
        assert survivors == list(NAMES), "a masked sum that came is in the sum, whoever dropped out later"
    mean = np.frombuffer(base64.b64decode(opened["mean"]), dtype="<f4")
    wanted = plain_mean(federation, run, survivors)
    np.testing.assert_allclose(mean, wanted, rtol=1e-5, atol=1e-4)
    assert np.abs(wanted).max() > 1e-2, "an empty sum would be right by chance"
    assert read_release(run.release).spent.epsilon > 0  # of all runs so far: a ledger adds up

    for name in NAMES:
        paid = len(federation.payments(name)) - before[name]
        attempts = json.loads((run.path / "server" / "attempts.json").read_bytes())["attempt"]
        assert (name in survivors) <= paid <= attempts, f"{name} paid {paid} times for {attempts} attempts"

    texts = [
        *federation.texts(),
        *((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()),
    ]
    assert holders(watch.public, texts), "the look-out finds what does travel"
    assert len(watch.whole) >= 3 * 2
    assert len(watch.forbidden(survivors)) > len(watch.whole)
    assert holders(watch.forbidden(survivors), texts) == []
