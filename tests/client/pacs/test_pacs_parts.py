"""The parts by hand: settings, the spool, the multipart reader, the list of studies, silence."""

import io
import itertools
import logging
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import uid
from pydicom.dataset import Dataset

from willis.client.pacs import spool as spool_module
from willis.client.pacs.accepted import is_uid
from willis.client.pacs.arrivals import Arrivals
from willis.client.pacs.fetch import read_list
from willis.client.pacs.multipart import MultipartError, boundary_of, parts
from willis.client.pacs.settings import PacsSettings
from willis.client.pacs.silence import quietly
from willis.client.pacs.spool import Arrived, Place, Spool, Verdict
from willis.client.site import read_site
from willis.shared.errors import StateError
from willis.shared.settings import parse

_LEAST = {"ae_title": "WILLIS", "spool": "spool"}


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"ae_title": "SEVENTEENLETTERSX"}, "ae_title"),
        ({"ae_title": "BACK\\SLASH"}, "ae_title"),
        ({"port": 0}, "port"),
        ({"listen": "hospital"}, "listen"),
        ({"silence_s": float("nan")}, "silence_s"),
        ({"watermark_bytes": -1}, "watermark_bytes"),
        ({"callers": [{"ae_title": "A", "host": "somewhere"}]}, "callers.0.host"),
        ({"listen": "0.0.0.0", "callers": [{"ae_title": "A"}]}, "needs a host where there is no tls"),
        ({"web": {"url": "ftp://pacs"}}, "url"),
        ({"web": {"url": "https://user:word@pacs/dicom-web"}}, "a token goes into a file"),
        ({"web": {"url": "http://pacs/dicom-web", "token": "token"}}, "in the clear"),
    ],
)
def test_settings_that_do_not_fit(changes, place):
    with pytest.raises(StateError, match=place):
        parse(_LEAST | changes, PacsSettings, where="test", error=StateError)


def test_paths_start_at_the_folder_of_the_site(tmp_path):
    (tmp_path / "site.toml").write_text(
        'name = "north"\ncohort = "c.csv"\nstate = "state"\nepsilon_cap = 8.0\ndelta = 1e-3\n'
        '[pacs]\nae_title = "WILLIS"\nspool = "spool"\n'
        'tls = { cert = "a.pem", key = "a.key", ca = "/ca.pem" }\n'
        '[pacs.web]\nurl = "https://pacs/dicom-web"\ntoken = "token"\n'
    )
    pacs = read_site(tmp_path / "site.toml").pacs
    assert pacs is not None
    assert pacs.tls is not None
    assert pacs.web is not None
    assert (pacs.spool, pacs.tls.key) == (tmp_path / "spool", tmp_path / "a.key")
    assert (pacs.tls.ca, pacs.web.token) == (Path("/ca.pem"), tmp_path / "token")


def test_who_is_known():
    callers = [{"ae_title": "A", "host": "10.0.0.0/24"}, {"ae_title": "B"}]
    settings = parse(_LEAST | {"callers": callers}, PacsSettings, where="test")
    assert [settings.knows(*one) for one in (("A", "10.0.0.9"), ("A ", "10.0.0.9"), ("B", "::1"))] == [
        True
    ] * 3
    assert [settings.knows(*one) for one in (("A", "10.0.1.9"), ("C", "10.0.0.9"), ("", "::1"))] == [
        False
    ] * 3


@pytest.mark.parametrize("text", ["", ".", "1.", "1..2", "1.2a", "1.2\n", "../etc", "1" * 65, "\uff11.2"])
def test_what_is_no_uid(text):
    assert not is_uid(text)


def _arrived(**changes: str) -> Arrived:
    item = Dataset()
    item.SOPClassUID, item.SOPInstanceUID = uid.MRImageStorage, "1.2.3"
    item.StudyInstanceUID, item.SeriesInstanceUID = "1.2", "1.2.1"
    for name, value in changes.items():
        setattr(item, name, value)
    data = io.BytesIO()
    item.save_as(data, implicit_vr=False, little_endian=True)
    return Arrived(data, str(uid.MRImageStorage), "1.2.3", str(uid.ExplicitVRLittleEndian))


def test_the_spool_judges(tmp_path):
    spool = Spool(tmp_path / "spool", watermark_bytes=0)
    assert spool.keep(_arrived(), study="1.9")[0] is Verdict.NOT_ASKED
    assert spool.keep(_arrived(SOPInstanceUID="1.2.4"))[0] is Verdict.MISMATCH
    assert spool.keep(_arrived(StudyInstanceUID=""))[0] is Verdict.DAMAGED
    assert not spool.holds("1.2.3")
    assert spool.keep(_arrived())[0] is Verdict.NEW
    assert spool.keep(_arrived(), study="1.2")[0] is Verdict.AGAIN
    assert spool.keep(_arrived(PatientID="other"))[0] is Verdict.OTHER_BYTES
    assert spool.holds("1.2.3")


@given(
    st.binary(max_size=300), st.sampled_from([uid.DeflatedExplicitVRLittleEndian, uid.ExplicitVRBigEndian])
)
def test_bytes_from_anywhere_are_damaged_and_kept_nowhere(tmp_path_factory, data, syntax):
    folder = tmp_path_factory.mktemp("spool")
    spool = Spool(folder, watermark_bytes=0)
    verdict, place = spool.keep(Arrived(io.BytesIO(data), str(uid.MRImageStorage), "1.2.3", str(syntax)))
    assert (verdict, place) == (Verdict.DAMAGED, None)
    assert [path for path in folder.rglob("*") if path.is_file()] == []


def test_two_writers_of_one_process_number_never_share_a_part(tmp_path, monkeypatch):
    write, names = spool_module._write_down, []

    def racing(part: Path, head: bytes, data: memoryview) -> None:
        names.append(part.name)
        write(part, head, data)
        if len(names) == 1:  # in another container, its first instance too
            monkeypatch.setattr(spool_module, "_count", itertools.count())
            assert Spool(tmp_path, watermark_bytes=0).keep(_arrived(PatientID="other"))[0] is Verdict.NEW

    monkeypatch.setattr(spool_module, "_count", itertools.count())
    monkeypatch.setattr(spool_module, "_write_down", racing)
    verdict, _ = Spool(tmp_path, watermark_bytes=0).keep(_arrived())
    assert len({name.split("-")[1] for name in names}) == 1
    assert len(set(names)) == 2
    assert verdict in (Verdict.NOT_WRITTEN, Verdict.OTHER_BYTES)
    (kept,) = (tmp_path / "instances").iterdir()
    assert b"other" in kept.read_bytes()


_SENT = b"--b\r\nContent-Type: application/dicom\r\n\r\nfirst\r\n--b\r\n\r\n\r\n--x\r\n--b--\r\nafter"


@given(st.lists(st.integers(0, len(_SENT)), max_size=8))
def test_multipart_however_it_is_cut(places):
    cuts = sorted({0, len(_SENT), *places})
    chunks = [_SENT[start:end] for start, end in pairwise(cuts)]
    found = [(kind, bytes(body)) for kind, body in parts(chunks, b"b", most_bytes=100)]
    assert found == [("application/dicom", b"first"), ("text/plain", b"\r\n--x")]


@pytest.mark.parametrize("end", range(1, _SENT.index(b"--b--")))
def test_multipart_that_ends_in_the_middle(end):
    with pytest.raises(MultipartError, match="ends in the middle"):
        list(parts([_SENT[:end]], b"b", most_bytes=100))


def test_multipart_that_is_too_large_or_none():
    with pytest.raises(MultipartError, match="more than 3 bytes"):
        list(parts([_SENT[:42], b"x" * 100, _SENT[42:]], b"b", most_bytes=3))
    assert boundary_of('multipart/related; type="application/dicom"; boundary="b c"') == b"b c"
    with pytest.raises(MultipartError, match="no multipart"):
        boundary_of("application/json")


def test_the_list_of_studies(tmp_path):
    path = tmp_path / "studies.txt"
    path.write_text("1.2.3 # Erika Musterfrau\n\n# a comment\n1.2.4\n1.2.3\n")
    assert read_list(path) == {"1.2.3": 1, "1.2.4": 4}
    path.write_text("1.2.3\nMusterfrau\n")
    with pytest.raises(StateError) as told:
        read_list(path)
    assert "line 2" in str(told.value)
    assert "Musterfrau" not in str(told.value)


def test_a_line_that_cannot_be_written_is_told_later(tmp_path):
    folder = tmp_path / "spool"
    told = []
    arrivals = Arrivals(folder, 1e-6, on_complete=told.append)
    arrivals.add(Place("study", "series", "mr"))
    with pytest.raises(OSError, match="No such file"):
        arrivals.tell()
    folder.mkdir()
    arrivals.tell()
    arrivals.tell()
    assert [(one.complete, one.instances, one.kinds) for one in told] == [(True, 1, {"mr": 1})]


def test_the_libraries_are_silent(caplog, capsys):
    logger = logging.getLogger("pynetdicom.assoc")
    with quietly():
        logger.error("Musterfrau")
    assert "Musterfrau" not in caplog.text + capsys.readouterr().err
