"""What a foreign client sends is what the spool holds, and it is told when a study came to rest."""

import json
import queue
import ssl
from pathlib import Path

import pytest
from harness.living_pacs import by_uid, dcmtk, held, need
from harness.made_certificates import MadeAuthority
from harness.made_dicom import enhanced, rtstruct, seg, series
from pydicom import uid

from willis.client.pacs.receive import Receiver

pytestmark = pytest.mark.pacs

_PROPOSE = {
    uid.ExplicitVRLittleEndian: "-xe",
    uid.ImplicitVRLittleEndian: "-xi",
    uid.ExplicitVRBigEndian: "-xb",
    uid.JPEGLosslessSV1: "-xs",
    uid.JPEG2000Lossless: "-xv",
    uid.JPEGLSLossless: "-xt",
    uid.RLELossless: "-xr",
    uid.DeflatedExplicitVRLittleEndian: "-xd",
}


def _send(settings, paths, *words, title="SENDER"):
    need()
    return dcmtk(
        "storescu", "-aet", title, "-aec", settings.ae_title, *words, "127.0.0.1", str(settings.port), *paths
    )


def _encoded(syntax: str) -> str | None:
    """Return what the maker is told: it writes explicit little endian without."""
    return None if syntax == uid.ExplicitVRLittleEndian else syntax


@pytest.mark.parametrize("syntax", [one for one in _PROPOSE if one != uid.ImplicitVRLittleEndian], ids=str)
def test_every_lossless_syntax_arrives_as_it_was(tmp_path: Path, pacs_settings, syntax):
    need()
    made = series(tmp_path / "made", shape=(3, 20, 24), syntax=_encoded(syntax))
    settings = pacs_settings()
    with Receiver(settings) as receiver:
        sent = _send(settings, made.paths, _PROPOSE[syntax])
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert held(settings) == by_uid(made.paths)
    assert {one.file_meta.TransferSyntaxUID for one in held(settings).values()} == {syntax}
    assert receiver.counts["new"] == 3


def test_every_class_arrives_as_it_was(tmp_path: Path, pacs_settings):
    need()
    made = series(tmp_path / "mr", shape=(3, 20, 24))
    paths = [
        *made.paths,
        *series(tmp_path / "ct", shape=(3, 20, 24), modality="CT", series="ct").paths,
        *enhanced(tmp_path / "enhanced", shape=(3, 20, 24), series="enhanced").paths,
        seg(tmp_path / "seg", made, (made.voxels > 500).astype("uint8")),
        rtstruct(tmp_path / "rt", made),
    ]
    settings, told = pacs_settings(silence_s=0.3), queue.Queue()
    with Receiver(settings, on_complete=told.put):
        sent = _send(settings, paths, "-R", "-xe")
        assert sent.returncode == 0, sent.stdout + sent.stderr
        one = told.get(timeout=20)
    assert held(settings) == by_uid(paths)
    assert (one.complete, one.instances) == (True, 9)
    assert one.kinds == {"mr": 3, "ct": 3, "enhanced-mr": 1, "seg": 1, "rtstruct": 1}
    line = json.loads((settings.spool / "complete.jsonl").read_text())
    assert (line["series"], line["instances"], line["complete"]) == (one.series, 9, True)


def test_sent_again_is_one_file_and_a_success(tmp_path: Path, pacs_settings):
    made = series(tmp_path / "made", shape=(3, 20, 24))
    settings = pacs_settings()
    with Receiver(settings) as receiver:
        for _ in range(2):
            assert _send(settings, made.paths, "-xe").returncode == 0
    assert (receiver.counts["new"], receiver.counts["again"]) == (3, 3)
    assert held(settings) == by_uid(made.paths)


def test_echo_is_answered(pacs_settings):
    need()
    settings = pacs_settings()
    with Receiver(settings):
        words = ("-aet", "SENDER", "-aec", "WILLIS", "127.0.0.1", str(settings.port))
        assert dcmtk("echoscu", *words).returncode == 0


def test_mutual_tls(tmp_path: Path, pacs_settings):
    authority = MadeAuthority(tmp_path / "authority")
    ours, theirs = authority.sign("site"), authority.sign("sender")
    made = series(tmp_path / "made", shape=(3, 20, 24))
    settings = pacs_settings(tls={"cert": ours.cert, "key": ours.key, "ca": ours.ca})
    with Receiver(settings):
        sent = _send(settings, made.paths, "-xe", "+tls", theirs.key, theirs.cert, "+cf", theirs.ca)
    assert sent.returncode == 0, sent.stdout + sent.stderr
    assert held(settings) == by_uid(made.paths)
    assert settings.tls.context(ssl.Purpose.CLIENT_AUTH).minimum_version is ssl.TLSVersion.TLSv1_2


def test_a_study_cut_short_by_the_stop_is_told_so(tmp_path: Path, pacs_settings):
    made = series(tmp_path / "made", shape=(3, 20, 24))
    settings, told = pacs_settings(silence_s=600), []
    with Receiver(settings, on_complete=told.append):
        assert _send(settings, made.paths, "-xe").returncode == 0
    assert [(one.complete, one.series, one.instances) for one in told] == [(False, 1, 3)]
