"""How a hospital joins: keys stay, settings keep their comments, a study beyond the law is not agreed to."""

import json
import stat
import subprocess
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_ssh_private_key, load_ssh_public_key

from willis.client.node.enrolment import agree, agreed_studies, enrol
from willis.client.node.keys import make_keys
from willis.client.node.programs import site_programs, states
from willis.client.node.settings_file import fill
from willis.client.site import read_site
from willis.client.store import open_store
from willis.shared.command import willis
from willis.shared.errors import CohortError, SiteRefused, StateError, StudyError
from willis.shared.secure_sum.identity import NodeIdentity, NodeKey
from willis.shared.study import read_study

KIT = """\
# the hospital's law
name = "site-a"
# where the subjects are
cohort = "cohort.csv"  # to be filled in
state = "state"
cohort_key = "cohort"
epsilon_cap = 8.0
delta = 1e-3
# digests of the studies
studies = []
# hours = ["20:00-06:00"]

[hub]
address = "hub.example:443"
"""


@pytest.fixture
def kit(tmp_path: Path) -> Path:
    folder = tmp_path / "site-a"
    folder.mkdir()
    (folder / "site.toml").write_text(KIT)
    return folder


@pytest.fixture
def table(phantom_cohort) -> Path:
    return phantom_cohort(subjects=4)


def call(*words: object) -> Result:
    return CliRunner().invoke(willis, [str(word) for word in words])


def test_a_kit_becomes_a_site(kit, table, tiny_study_file):
    study = tiny_study_file()
    enrolled = enrol(kit, cohort=table, study=study)
    assert (enrolled.site, enrolled.study, enrolled.subjects) == ("site-a", "tiny", 4)  # not those of site-b
    settings = read_site(kit / "site.toml")
    assert settings.cohort == table
    assert settings.studies == (read_study(study).digest(),) == (enrolled.digest,)
    assert open_store(settings.store).spec == read_study(study).patch
    assert [one.digest() for one in agreed_studies(settings)] == [enrolled.digest]
    text = (kit / "site.toml").read_text()
    assert [line for line in KIT.splitlines() if line.startswith("#")] == [
        line for line in text.splitlines() if line.startswith("#")
    ]
    assert settings.signer().identity.line() == " ".join(enrolled.public_key.split()[:2])


def test_the_key_is_one_that_flower_and_ssh_read_and_stays(kit, table, tiny_study_file):
    first = enrol(kit, cohort=table, study=tiny_study_file())
    pem = (kit / "node.key").read_bytes()
    key = load_ssh_private_key(pem, None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert isinstance(key.curve, ec.SECP384R1)
    public = load_ssh_public_key((kit / "site-a.pub").read_bytes())
    assert isinstance(public, ec.EllipticCurvePublicKey)
    assert key.public_key().public_numbers() == public.public_numbers()
    told = subprocess.run(["ssh-keygen", "-y", "-f", kit / "node.key"], capture_output=True, text=True)
    assert told.stdout.split()[:2] == first.public_key.split()[:2]
    assert stat.S_IMODE((kit / "node.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((kit / "superexec.secret").stat().st_mode) == 0o600
    assert enrol(kit, cohort=table, study=tiny_study_file()) == first
    assert (kit / "node.key").read_bytes() == pem


def test_a_key_in_openssh_form_signs(tmp_path):
    key = NodeKey.fresh_p384()
    again = NodeKey.read(key.openssh())
    identity = NodeIdentity.read(key.identity.line().encode())
    assert identity.signed(b"message", again.sign(b"message"))
    assert not identity.signed(b"another", again.sign(b"message"))
    assert NodeKey.read(NodeKey.fresh().openssh()).sign(b"message")
    damaged = key.openssh()[:90] + b"\n-----END OPENSSH PRIVATE KEY-----\n"
    with pytest.raises(StudyError, match="cannot read the site's private key"):
        NodeKey.read(damaged)


def test_a_secret_open_to_others_is_not_used(kit):
    make_keys(kit, "site-a")
    (kit / "node.key").chmod(0o640)
    with pytest.raises(StateError, match="chmod 600"):
        make_keys(kit, "site-a")


def test_another_study_with_other_patches_takes_the_place_of_the_first(kit, table, tiny_study_file):
    first = enrol(kit, cohort=table, study=tiny_study_file())
    second = agree(kit, tiny_study_file(name="other", patch={"per_subject": 6}))
    settings = read_site(kit / "site.toml")
    assert settings.studies == (first.digest, second.digest)
    assert open_store(settings.store).per_subject == 6


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"privacy": {"epsilon": 8.5}}, SiteRefused),
        ({"federation": {"sites": [{"name": "site-b", "subjects": 6}], "quorum": 1}}, SiteRefused),
        ({"training": {"rounds": 0}}, StudyError),
    ],
)
def test_a_study_beyond_the_law_is_not_agreed_to(kit, table, tiny_study_file, changes, error):
    with pytest.raises(error):
        enrol(kit, cohort=table, study=tiny_study_file(**changes))
    assert read_site(kit / "site.toml").studies == ()
    assert not (kit / "state").exists()


def test_what_is_missing_is_told_and_nothing_is_made(kit, table, tiny_study_file, tmp_path):
    with pytest.raises(CohortError, match="no table"):
        enrol(kit, cohort=tmp_path / "none.csv", study=tiny_study_file())
    with pytest.raises(StateError, match="unpack the kit"):
        enrol(tmp_path, cohort=table, study=tiny_study_file())
    assert sorted(path.name for path in kit.iterdir()) == ["site.toml"]


@pytest.mark.parametrize(
    "text",
    [
        'studies = ["a"]\n',
        'studies = [\n  "a",\n  "b",\n]\n',
        "# studies = [] # none yet\n",
        "name = 1\n",
        'name = 1\n\n[hub]\nstudies = "of another table"\n',
        "studies_of = 1\n[peers]\n",
    ],
)
def test_a_key_is_filled_in_where_it_belongs(tmp_path, text):
    path = tmp_path / "site.toml"
    path.write_text(text)
    before = tomllib.loads(text)
    fill(path, {"studies": ["x", "y"], "cohort": 'C:\\data "1"\\Ä.csv'})
    after = tomllib.loads(path.read_text())
    assert after == before | {"studies": ["x", "y"], "cohort": 'C:\\data "1"\\Ä.csv'}


def test_a_file_that_is_no_toml_stays_as_it_was(tmp_path):
    path = tmp_path / "site.toml"
    path.write_text("name = \n")
    with pytest.raises(StateError, match="not valid TOML"):
        fill(path, {"studies": ["x"]})
    assert path.read_text() == "name = \n"


def test_the_node_connects_outward_and_listens_on_loopback_alone(kit, table, tiny_study_file):
    enrol(kit, cohort=table, study=tiny_study_file())
    settings = read_site(kit / "site.toml")
    node, executor = site_programs(kit, settings, port=4711)
    words = list(node.command)
    assert words[words.index("--superlink") + 1] == "hub.example:443"
    assert words[words.index("--host") + 1] == "127.0.0.1"
    assert "--insecure" not in words
    assert executor.command[1:3] == ("--runtime-api-address", "127.0.0.1:4711")
    for program in (node, executor):
        assert program.environment["FLWR_TELEMETRY_ENABLED"] == "0"
        assert "127.0.0.1" in program.environment["NO_PROXY"].split(",")
        assert not any((kit / "superexec.secret").read_text() in word for word in program.command)
    assert states(settings) is None
    with pytest.raises(StateError, match=r"no \[hub\]"):
        site_programs(kit, settings.model_copy(update={"hub": None}), port=4711)


def test_the_commands_tell_it_as_json(kit, table, tiny_study_file):
    joined = call("site", "init", kit, "--cohort", table, "--study", tiny_study_file(), "--json")
    assert joined.exit_code == 0, joined.output
    assert json.loads(joined.stdout)["subjects"] == 4
    assert json.loads(call("site", "optout", kit, "p1", "--json").stdout) == {"opted_out": ["p1"]}
    assert call("site", "optout", kit, "p7").exit_code == 0  # of the table, though of another site
    assert call("site", "optout", kit, "nobody").exit_code == 2
    status = json.loads(call("site", "status", kit, "--json").stdout)
    assert (status["running"], status["subjects"], status["opted_out"]) == (False, 3, 1)
    assert "p1" not in json.dumps(status)
    ledger = json.loads(call("site", "ledger", kit, "--json").stdout)
    assert (ledger["rows"], ledger["left"]) == ([], 8.0)
    assert "nothing was ever paid" in call("site", "ledger", kit).stdout
    assert call("site", "status", kit / "nowhere").exit_code == 2
