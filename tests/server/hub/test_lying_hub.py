"""A hub whose words are not those of the sheet that it signed: nobody who collects believes it."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from harness.serving_trial import RUN, door_of, hub_with_release

from willis.server.hub.collectors import invite
from willis.server.hub.folder import HubFolder
from willis.server.hub.serving import serving
from willis.server.hub.serving_releases import ServedRelease, Shelf
from willis.shared.collection import collection_pb2 as words
from willis.shared.collection.kit import open_kit
from willis.shared.collection.remote_pairs import RemotePairs
from willis.shared.collection.signed_sheet import FORMAT, read_sheet
from willis.shared.command import willis
from willis.shared.errors import ReleaseError
from willis.shared.release import read_release
from willis.shared.release_sheet import FORMAT as WRITTEN

Lie = Callable[[words.Description, Path], object]


def smaller_epsilon(told: words.Description, folder: Path) -> None:
    del folder
    told.release.privacy = told.release.privacy.replace("epsilon 2.50", "epsilon 0.01")


def another_study(told: words.Description, folder: Path) -> None:
    del folder
    told.release.study = "large-study"


def another_shape(told: words.Description, folder: Path) -> None:
    del folder
    told.shape.image[1] = 32


def doctored_sheet(told: words.Description, folder: Path) -> None:
    """Words and sheet agree; the sheet's digest is not what was signed."""
    smaller_epsilon(told, folder)
    sheet = json.loads(told.sheet)
    sheet["network"]["epsilon"] = 0.01
    told.sheet = json.dumps(sheet).encode()


def another_file(told: words.Description, folder: Path) -> None:
    """A file that was signed, but says nothing of what is asked."""
    told.sheet_file = "docs/privacy_statement.json"
    told.sheet = (folder / told.sheet_file).read_bytes()


LIES: dict[Lie, str] = {
    smaller_epsilon: "privacy: the hub says 'epsilon 0.01 at",
    another_study: "study: the hub says 'large-study', the signed sheet 'tiny-study'",
    another_shape: "shape of an image: the hub says '1 x 32 x 16', the signed sheet '1 x 16 x 16'",
    doctored_sheet: "its sheet is not the file that was signed",
    another_file: "the hub gives 'docs/privacy_statement.json' for release.json",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubFolder]:
    made = hub_with_release(tmp_path_factory.mktemp("lying"), calls_a_minute=10_000)
    with serving(made, grace_s=0):
        yield made


@pytest.fixture(scope="module")
def kit(hub: HubFolder) -> Path:
    return invite(hub, "lab", out=hub.path.parent / "kits", days=3)[0]


@pytest.fixture
def lie(hub: HubFolder, monkeypatch: pytest.MonkeyPatch) -> Callable[[Lie], None]:
    """Return what makes the hub tell a lie from now on, over its own TLS connection."""
    honest = Shelf.find

    def tell(change: Lie) -> None:
        def lying(shelf: Shelf, name: str, *, digest: str | None = None) -> ServedRelease:
            found = honest(shelf, name, digest=digest)
            told = words.Description()
            told.CopyFrom(found.description)
            change(told, hub.runs / RUN / "release")
            return replace(found, description=told)

        monkeypatch.setattr(Shelf, "find", lying)

    return tell


def call(*parts: object) -> Result:
    return CliRunner().invoke(willis, [str(part) for part in ("collect", *parts)])


@pytest.mark.parametrize("change", LIES, ids=lambda change: change.__name__)
def test_nothing_is_told_fetched_or_drawn_of_a_release_that_its_hub_lies_about(
    kit: Path, tmp_path: Path, lie: Callable[[Lie], None], change: Lie
) -> None:
    lie(change)
    out = ("--out", tmp_path / "out")
    for command in (
        ("describe", kit, RUN),
        ("describe", kit, RUN, "--json"),
        ("draw", kit, RUN, "--n", 3, "--seed", 1, *out),
        ("fetch", kit, RUN, *out),
    ):
        ended = call(*command)
        assert ended.exit_code == 2, ended.output
        assert LIES[change] in " ".join(ended.output.split())
    assert list(tmp_path.iterdir()) == []
    with door_of(open_kit(kit)) as door, pytest.raises(ReleaseError) as caught:
        RemotePairs(door, RUN, n=1, seed=0)
    assert LIES[change] in str(caught.value)


def test_an_honest_hub_s_figure_is_that_of_the_sheet(hub: HubFolder, kit: Path) -> None:
    release = read_release(hub.runs / RUN / "release")
    with door_of(open_kit(kit)) as door:
        told = RemotePairs(door, RUN, n=1, seed=0).described
    assert (told.privacy, told.study) == (release.spent.sentence(), release.study.name)
    assert told.image_shape == (len(release.study.patch.channels), *release.study.patch.size)


def test_the_list_says_whose_words_it_holds(kit: Path) -> None:
    assert "`willis collect describe` compares them with what it signed" in call("list", kit).output


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": FORMAT + 1}, "is of format 4, this Willis reads 3; install the Willis of the hub"),
        ({"format": None}, "is of format None"),
        ({"network": {"epsilon": 1}}, "network.delta: missing"),
        ({"study": {"name": "Not a name", "patch": {"size": [16, 16], "channels": ["a"]}}}, "study.name"),
        ({"study": {"name": "a", "patch": {"size": [16], "channels": ["a"]}}}, "study.patch.size"),
        ({"study": {"name": "a", "patch": {"size": [16, 0], "channels": ["a"]}}}, "study.patch.size"),
        ({"study": {"name": "a", "patch": {"size": [16, 16], "channels": []}}}, "study.patch.channels"),
    ],
)
def test_a_signed_sheet_that_does_not_fit_is_told(hub: HubFolder, changes: dict, said: str) -> None:
    sheet = json.loads((hub.runs / RUN / "release" / "release.json").read_bytes())
    with pytest.raises(ReleaseError) as caught:
        read_sheet(sheet | changes, release="demo")
    assert said in str(caught.value)


def test_collectors_read_the_format_that_releases_are_written_in() -> None:
    assert FORMAT == WRITTEN
