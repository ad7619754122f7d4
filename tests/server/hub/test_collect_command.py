"""``willis collect`` and the hub's side of it, as typed: answers, exit codes, nothing half-written."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from harness.serving_trial import RUN, bytes_of, hub_with_release

from willis.server.hub.folder import HubFolder
from willis.server.hub.serving import serving
from willis.server.hub.settings import CollectionSettings
from willis.server.signing import sign_as_hub
from willis.shared.command import willis
from willis.shared.release import read_release
from willis.shared.release_signature import read_public_key, verify_release


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubFolder]:
    made = hub_with_release(tmp_path_factory.mktemp("command"), calls_a_minute=10_000, most_pairs=100)
    with serving(made, grace_s=0):
        yield made


def call(*words: object) -> Result:
    return CliRunner().invoke(willis, [str(word) for word in words])


def told(*words: object) -> dict:
    ended = call(*words, "--json")
    assert ended.exit_code == 0, ended.output
    return json.loads(ended.stdout)


@pytest.fixture(scope="module")
def kit(hub: HubFolder) -> Path:
    made = told("hub", "invite", hub.path, "lab-a", "--out", hub.path.parent / "kits", "--days", 5)
    return Path(made["kit"])


def test_a_kit_holds_what_a_collector_needs_and_its_secret_is_private(kit: Path, hub: HubFolder) -> None:
    assert sorted(bytes_of(kit)) == ["ca.crt", "collect.toml", "release.pub", "token"]
    assert stat.S_IMODE((kit / "token").stat().st_mode) == 0o600
    assert f'address = "localhost:{hub.settings.collection.port}"' in (kit / "collect.toml").read_text()


def test_list_and_describe(hub: HubFolder, kit: Path) -> None:
    release = read_release(hub.runs / RUN / "release")
    listed = told("collect", "list", kit)["releases"]
    assert [(one["release"], one["digest"]) for one in listed] == [(RUN, release.digest)]
    described = told("collect", "describe", kit, RUN)
    assert described["sheet"]["study"]["name"] == "tiny-study"
    assert described["files"]["LICENSE"] == (release.folder / "LICENSE").stat().st_size
    sentence = release.spent.sentence()
    assert sentence in call("collect", "list", kit).output
    assert sentence in call("collect", "describe", kit, RUN).output


def test_fetch_and_draw(hub: HubFolder, kit: Path, tmp_path: Path) -> None:
    fetched = told("collect", "fetch", kit, RUN, "--out", tmp_path / "release")
    assert bytes_of(Path(fetched["path"])) == bytes_of(hub.runs / RUN / "release")
    words = ("collect", "draw", kit, RUN, "--n", 9, "--seed", 4, "--batch", 4, "--first", 2)
    drawn = told(*words, "--out", tmp_path / "pairs")
    wanted = read_release(tmp_path / "release").sampler().draw(first=2, n=9, seed=4).numpy()
    with np.load(drawn["path"], allow_pickle=False) as found:
        np.testing.assert_allclose(found["images"], wanted[:, :-1], atol=1e-6)
        np.testing.assert_array_equal(found["labels"], wanted[:, -1] > 0)
        assert json.loads(str(found["about"]))["release"] == fetched["digest"]
    assert "epsilon 2.50" in (tmp_path / "pairs" / "pairs.privacy.txt").read_text()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("describe", "KIT", "nothing"), 2, "served are: tiny-1"),
        (("fetch", "KIT", "../../x", "--out", "OUT"), 2, "served are: tiny-1"),
        (("draw", "KIT", RUN, "--n", "101", "--seed", "1", "--out", "OUT"), 1, "at most 100 pairs in a draw"),
        (("draw", "KIT", RUN, "--n", "0", "--seed", "1", "--out", "OUT"), 2, "0 is not in the range"),
        (("draw", "KIT", RUN, "--n", "-1", "--seed", "1", "--out", "OUT"), 2, "-1 is not in the range"),
        (("draw", "KIT", RUN, "--n", "10000001", "--seed", "1", "--out", "OUT"), 2, "is not in the range"),
        (("draw", "KIT", RUN, "--n", "5", "--seed", "-1", "--out", "OUT"), 2, "is not in the range"),
        (("list", "OUT"), 2, "is no kit"),
    ],
)
def test_what_cannot_be_is_told_and_leaves_nothing(
    kit: Path, tmp_path: Path, words: tuple[str, ...], code: int, said: str
) -> None:
    places = {"KIT": str(kit), "OUT": str(tmp_path / "out")}
    ended = call("collect", *(places.get(word, word) for word in words))
    assert (ended.exit_code, said in ended.output) == (code, True), ended.output
    assert list(tmp_path.iterdir()) == []


def spoilt(kit: Path, tmp_path: Path, name: str, text: str, *, mode: int = 0o600) -> Path:
    """Return a copy of a kit with one file replaced."""
    copy = tmp_path / "kit"
    copy.mkdir()
    for file, data in bytes_of(kit).items():
        (copy / file).write_bytes(data)
        (copy / file).chmod(0o600)
    (copy / name).write_text(text)
    (copy / name).chmod(mode)
    return copy


@pytest.mark.parametrize(
    ("name", "text", "code", "said"),
    [
        ("token", "willis-other\n", 1, "no invitation"),
        ("token", "two words\n", 2, "must hold one word"),
        ("token", "", 2, "must hold one word"),
        ("collect.toml", 'name = "a"', 2, "address: missing"),
        ("collect.toml", 'name = "a"\naddress = "no port"', 2, "address"),
        ("release.pub", "no key", 2, "cannot read the release key"),
    ],
)
def test_a_kit_that_does_not_fit_is_told(
    hub: HubFolder, kit: Path, tmp_path: Path, name: str, text: str, code: int, said: str
) -> None:
    del hub
    ended = call("collect", "list", spoilt(kit, tmp_path, name, text))
    assert (ended.exit_code, said in ended.output) == (code, True), ended.output


def test_a_secret_that_others_may_read_is_refused(kit: Path, tmp_path: Path) -> None:
    ended = call("collect", "list", spoilt(kit, tmp_path, "token", "willis-a", mode=0o640))
    assert (ended.exit_code, "chmod 600" in ended.output) == (2, True)


def test_uninvited(hub: HubFolder) -> None:
    call("hub", "invite", hub.path, "lab-b", "--out", hub.path.parent / "kits", "--certificate")
    assert sorted(bytes_of(hub.path.parent / "kits" / "lab-b")) == [
        "ca.crt",
        "client.crt",
        "client.key",
        "collect.toml",
        "release.pub",
    ]
    assert told("hub", "uninvite", hub.path, "lab-b") == {"uninvited": "lab-b"}
    assert call("hub", "uninvite", hub.path, "lab-b").exit_code == 2


def test_init_completes_a_hub_of_an_older_willis(tmp_path: Path) -> None:
    old = hub_with_release(tmp_path)
    release = old.runs / RUN / "release"
    for lost in (*old.release_key, release / "SHA256SUMS.sig"):
        lost.unlink()
    old.collectors.rmdir()
    text = (old.path / "hub.toml").read_text().partition("[collection]")[0]
    (old.path / "hub.toml").write_text(text)
    words = ("--host", "localhost", "--listen", "127.0.0.1")
    assert told("hub", "init", old.path, *words)["signed"] == [RUN]
    assert stat.S_IMODE(old.release_key[0].stat().st_mode) == 0o600
    assert verify_release(release, read_public_key(old.release_key[1])).digest
    assert told("hub", "init", old.path, *words)["signed"] == []


def test_init_keeps_the_limits_that_somebody_wrote(tmp_path: Path) -> None:
    made = hub_with_release(tmp_path, most_pairs=123)
    told("hub", "init", made.path, "--host", "localhost", "--listen", "127.0.0.1")
    assert "most_pairs = 123\n" in (made.path / "hub.toml").read_text()


def test_a_run_outside_a_hub_stays_unsigned(tmp_path: Path, hub: HubFolder) -> None:
    assert not sign_as_hub(tmp_path / "runs" / "demo")
    assert sign_as_hub(hub.runs / RUN)


def test_the_python_of_the_page_runs(
    hub: HubFolder, kit: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(hub.path.parent)
    page = (Path(__file__).parents[3] / "docs" / "collect.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    assert kit.resolve() == Path("kits/lab-a").resolve()
    exec(compile(snippet.replace("demo-1", RUN), "collect.md", "exec"), {})
    assert capsys.readouterr().out.count("(16, 1, 16, 16)") == 2


def test_the_limits_of_the_page_are_the_defaults() -> None:
    page = (Path(__file__).parents[3] / "docs" / "collect.md").read_text(encoding="utf-8")
    for name, field in CollectionSettings.model_fields.items():
        row = re.search(rf"^\| `{name}` \| ([0-9 ]+) \|", page, re.M)
        assert row is not None, name
        assert float(row[1].replace(" ", "")) == field.default
