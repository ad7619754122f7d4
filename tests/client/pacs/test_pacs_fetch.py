"""Stored in a real PACS, fetched by every way, sent by it: equal to the source; a second run asks nothing."""

import contextlib
from pathlib import Path

import pytest
from harness.living_pacs import by_uid, dcmtk, held, living_pacs, need
from harness.made_certificates import MadeAuthority
from harness.made_dicom import made_uid, seg, series
from pydicom import uid

from willis.client.pacs.fetch import fetch
from willis.client.pacs.receive import Receiver
from willis.shared.errors import StateError, Unreachable
from willis.shared.processes import free_port

pytestmark = pytest.mark.pacs


@pytest.fixture(scope="module")
def site_port():
    return free_port()


@pytest.fixture(scope="module")
def pacs(tmp_path_factory, site_port):
    need(orthanc=True)
    with living_pacs(tmp_path_factory.mktemp("pacs"), site_port=site_port) as running:
        yield running


@pytest.fixture(scope="module")
def export(tmp_path_factory, pacs):
    """One study of four series, compressed ones too, put into the PACS by dcmtk; another of one series."""
    folder = tmp_path_factory.mktemp("export")
    tof = series(folder / "tof", shape=(5, 20, 24))
    paths = [
        *tof.paths,
        *series(folder / "jpeg", shape=(3, 20, 24), series="jpeg", syntax=uid.JPEGLosslessSV1).paths,
        *series(folder / "j2k", shape=(3, 20, 24), series="j2k", syntax=uid.JPEG2000Lossless).paths,
        *series(folder / "ls", shape=(3, 20, 24), series="ls", syntax=uid.JPEGLSLossless).paths,
        *series(folder / "rle", shape=(3, 20, 24), series="rle", syntax=uid.RLELossless).paths,
        seg(folder / "seg", tof, (tof.voxels > 500).astype("uint8")),
    ]
    other = series(folder / "other", shape=(4, 20, 24), study="other")
    address = ("-aet", "SENDER", "-aec", pacs.ae_title, "127.0.0.1", str(pacs.dicom))
    for words, some in (
        (("-xe", "-R"), [*tof.paths, *other.paths, paths[-1]]),
        *(
            ((word,), paths[start : start + 3])
            for word, start in zip(("-xs", "-xv", "-xt", "-xr"), (5, 8, 11, 14), strict=True)
        ),
    ):
        sent = dcmtk("storescu", *words, *address, *some)
        assert sent.returncode == 0, sent.stdout + sent.stderr
    return {tof.study: paths, other.study: list(other.paths)}


@pytest.fixture
def settings_for(pacs, site_port, pacs_settings):
    def built(**changes):
        source = {"ae_title": pacs.ae_title, "host": "127.0.0.1", "port": pacs.dicom}
        return pacs_settings(**({"port": site_port, "source": source, "web": {"url": pacs.url}} | changes))

    return built


@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_what_is_fetched_is_what_was_stored(export, settings_for, by):
    settings = settings_for()
    studies = {study: line for line, study in enumerate(export, start=1)}
    told = []
    found = fetch(settings, studies, by=by, progress=lambda *one: told.append(one))
    assert (found.studies, found.complete, found.unknown, found.incomplete) == (2, 2, (), ())
    assert (found.instances, found.fetched, found.there, found.refused) == (22, 22, 0, {})
    source = by_uid(path for paths in export.values() for path in paths)
    assert held(settings) == source
    syntaxes = {name: one.file_meta.TransferSyntaxUID for name, one in source.items()}
    assert {name: one.file_meta.TransferSyntaxUID for name, one in held(settings).items()} == syntaxes
    assert (told[0], told[-1]) == ((0, 2), (2, 2))
    again = fetch(settings, studies, by=by)
    assert (again.fetched, again.there, again.complete) == (0, 22, 2)


@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_only_what_lacks_is_asked_again(export, settings_for, by, pacs):
    settings = settings_for()
    study = next(iter(export))
    fetch(settings, {study: 1}, by="get")
    there = sorted((settings.spool / "instances").iterdir())
    times = {path: path.stat().st_mtime_ns for path in there[7:]}
    for path in there[:7]:
        path.unlink()
    found = fetch(settings, {study: 1}, by=by)
    assert (found.fetched, found.there, found.complete) == (7, 11, 1)
    assert held(settings) == by_uid(export[study])
    assert {path: path.stat().st_mtime_ns for path in times} == times


def test_one_way_gives_the_files_of_another(export, settings_for, tmp_path):
    files = []
    for by in ("get", "move", "web"):
        settings = settings_for(spool=tmp_path / by)
        fetch(settings, dict.fromkeys(export, 1), by=by)
        files.append({path.name: path.read_bytes() for path in (settings.spool / "instances").iterdir()})
    assert files[0] == files[1] == files[2]
    assert len(files[0]) == 22


def test_the_pacs_sends_on_its_own(export, settings_for, pacs):
    settings = settings_for()
    with Receiver(settings) as receiver:
        for study in pacs.ask("/studies"):
            pacs.ask("/modalities/site/store", {"Resources": [study], "Synchronous": True})
    assert receiver.counts["new"] == 22
    assert held(settings) == by_uid(path for paths in export.values() for path in paths)


def test_a_running_listener_takes_a_move(export, settings_for):
    settings = settings_for()
    with Receiver(settings) as receiver:
        found = fetch(settings, dict.fromkeys(export, 1), by="move")
    assert (found.fetched, receiver.counts["new"]) == (22, 22)


@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_a_study_that_the_pacs_does_not_know_is_told_by_its_line(export, settings_for, by):
    settings = settings_for()
    found = fetch(settings, {made_uid("nobody"): 7, next(iter(export)): 9}, by=by)
    assert (found.complete, found.unknown, found.fetched) == (1, (7,), 18)


@pytest.mark.parametrize("by", ["get", "web"])
def test_a_full_disk_stops_it_and_it_goes_on_later(export, settings_for, by):
    settings = settings_for(watermark_bytes=1 << 60)
    with pytest.raises(StateError, match="free some"):
        fetch(settings, dict.fromkeys(export, 1), by=by)
    assert held(settings) == {}
    assert list((settings.spool / "parts").iterdir()) == []
    assert fetch(settings_for(), dict.fromkeys(export, 1), by=by).fetched == 22


@pytest.mark.parametrize("by", ["get", "move", "web"])
def test_a_pacs_that_is_not_there(settings_for, by, monkeypatch):
    monkeypatch.setattr("willis.client.pacs.fetch._PAUSES_S", (0.0, 0.1))
    nobody = free_port()
    settings = settings_for(
        source={"ae_title": "PACS", "host": "127.0.0.1", "port": nobody},
        web={"url": f"http://127.0.0.1:{nobody}/dicom-web"},
    )
    with pytest.raises(Unreachable) as told:
        fetch(settings, {made_uid("secret"): 1}, by=by)
    assert made_uid("secret") not in str(told.value)
    assert told.value.exit_code == 3


def test_mutual_tls_both_ways(tmp_path: Path, pacs_settings):
    need(orthanc=True)
    authority, stranger = MadeAuthority(tmp_path / "authority"), MadeAuthority(tmp_path / "stranger")
    ours, other = authority.sign("site"), stranger.sign("site")
    made = series(tmp_path / "made", shape=(3, 20, 24))
    port = free_port()
    with living_pacs(tmp_path / "pacs", site_port=port, tls=authority.sign("pacs")) as running:
        running.store(made.paths)

        def settings(spool: str, mine):
            files = {"cert": mine.cert, "key": mine.key, "ca": mine.ca}
            source = {"ae_title": "PACS", "host": "127.0.0.1", "port": running.dicom}
            return pacs_settings(
                spool=tmp_path / spool, port=port, tls=files, source=source | ({"tls": files} if mine else {})
            )

        for by in ("get", "move"):
            assert fetch(settings(by, ours), {made.study: 1}, by=by).fetched == 3
            assert held(settings(by, ours)) == by_uid(made.paths)
        strange = settings("strange", other)
        with Receiver(strange) as receiver, contextlib.suppress(OSError):
            running.ask("/modalities/site/store", {"Resources": running.ask("/studies"), "Synchronous": True})
        assert held(strange) == {}
        assert receiver.counts["no-tls"] >= 1
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("willis.client.pacs.fetch._PAUSES_S", (0.0,))
            with pytest.raises(Unreachable):
                fetch(strange, {made.study: 1}, by="get")
