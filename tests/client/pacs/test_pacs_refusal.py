"""What is not taken is refused to its sender, and nothing that was there before is lost or half-written."""

import os
import socket
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from harness.living_pacs import by_uid, dcmtk, held, need
from harness.made_certificates import MadeAuthority
from harness.made_dicom import series
from pydicom import dcmread, uid
from pynetdicom import AE

from willis.client.pacs.receive import Receiver
from willis.shared.errors import StateError
from willis.shared.processes import free_port

pytestmark = pytest.mark.pacs


@pytest.fixture
def made(tmp_path: Path):
    need()
    return series(tmp_path / "made", shape=(3, 20, 24))


def _send(settings, paths, *words, title="SENDER", called="WILLIS", port=None):
    address = ("-aet", title, "-aec", called, "127.0.0.1", str(port or settings.port))
    return dcmtk("storescu", "-xe", *words, *address, *paths)


def _nothing_is_half_written(settings) -> bool:
    return list((settings.spool / "parts").iterdir()) == []


@pytest.mark.parametrize(
    ("who", "counted"),
    [
        ({"title": "STRANGER"}, "unknown-caller"),
        ({"title": "ELSEWHERE"}, "unknown-caller"),
        ({"called": "ANOTHER"}, "association-refused"),
    ],
)
def test_unknown_titles(made, pacs_settings, who, counted):
    callers = ({"ae_title": "SENDER"}, {"ae_title": "ELSEWHERE", "host": "10.1.0.0/16"})
    settings = pacs_settings(callers=callers)
    with Receiver(settings) as receiver:
        assert _send(settings, made.paths, **who).returncode != 0
        assert held(settings) == {}
        assert receiver.counts[counted] == 1
        assert _send(settings, made.paths).returncode == 0  # the listener is well
    assert held(settings) == by_uid(made.paths)


def test_plaintext_wrong_authority_and_silence_where_tls_is_asked(tmp_path, made, pacs_settings):
    authority, other = MadeAuthority(tmp_path / "authority"), MadeAuthority(tmp_path / "other")
    ours, theirs, strange = authority.sign("site"), authority.sign("sender"), other.sign("stranger")
    settings = pacs_settings(tls={"cert": ours.cert, "key": ours.key, "ca": ours.ca})
    with Receiver(settings) as receiver, socket.create_connection(("127.0.0.1", settings.port)):
        assert _send(settings, made.paths).returncode != 0
        assert _send(settings, made.paths, "+tls", strange.key, strange.cert, "+cf", ours.ca).returncode != 0
        assert _send(settings, made.paths, "+tla", "+cf", ours.ca).returncode != 0  # shows no certificate
        assert held(settings) == {}
        assert receiver.counts["no-tls"] == 3
        # the silent connection, still open, holds nobody up
        assert _send(settings, made.paths, "+tls", theirs.key, theirs.cert, "+cf", ours.ca).returncode == 0
    assert held(settings) == by_uid(made.paths)


def test_a_key_that_others_may_open(tmp_path, pacs_settings):
    ours = MadeAuthority(tmp_path / "authority").sign("site")
    ours.key.chmod(0o640)
    settings = pacs_settings(tls={"cert": ours.cert, "key": ours.key, "ca": ours.ca})
    with pytest.raises(StateError, match="chmod 600"), Receiver(settings):
        pass


def test_the_watermark(made, pacs_settings):
    settings = pacs_settings(watermark_bytes=1 << 60)
    with Receiver(settings) as receiver:
        sent = _send(settings, made.paths, "-v")
    assert (
        "0xa700" in sent.stdout.lower() + sent.stderr.lower() or "OutOfResources" in sent.stdout + sent.stderr
    )
    assert receiver.counts["no-room"] >= 1
    assert held(settings) == {}
    assert _nothing_is_half_written(settings)


def test_a_full_disk(tmp_path, made, pacs_settings):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=192k", "tmpfs", str(disk)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("a tmpfs cannot be mounted here: needs root")
    try:
        big = series(tmp_path / "big", shape=(6, 160, 160), series="big")
        settings = pacs_settings(spool=disk / "spool")
        with Receiver(settings) as receiver:
            assert _send(settings, made.paths).returncode == 0
            _send(settings, big.paths)
            assert receiver.counts["no-room"] >= 1
            assert _nothing_is_half_written(settings)
        found, source = held(settings), by_uid([*made.paths, *big.paths])
        assert all(found[name] == source[name] for name in found)
        assert set(by_uid(made.paths)) <= set(found)
        assert len(found) < len(source)
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_the_same_uid_with_other_bytes(made, pacs_settings, tmp_path):
    other = dcmread(made.paths[0])
    other.PixelData = bytes(len(other.PixelData))
    other.save_as(tmp_path / "other.dcm")
    settings = pacs_settings()
    with Receiver(settings) as receiver:
        assert _send(settings, made.paths).returncode == 0
        sent = _send(settings, [tmp_path / "other.dcm"], "-v")
    assert sent.returncode != 0 or "a900" in (sent.stdout + sent.stderr).lower()
    assert receiver.counts["other-bytes"] == 1
    assert held(settings) == by_uid(made.paths)
    assert _nothing_is_half_written(settings)


def test_a_class_that_is_not_taken(made, pacs_settings):
    for path in made.paths:
        item = dcmread(path)
        item.SOPClassUID = item.file_meta.MediaStorageSOPClassUID = uid.SecondaryCaptureImageStorage
        item.save_as(path)
    settings = pacs_settings()
    with Receiver(settings) as receiver:
        assert _send(settings, made.paths, "-R").returncode != 0
    assert receiver.counts["class-not-taken"] == 1
    assert held(settings) == {}


def test_a_data_set_that_belies_its_request(made, pacs_settings):
    """The UID of the command is not that of the data set: it would be kept under a wrong name."""
    settings = pacs_settings()
    item = dcmread(made.paths[0])
    with Receiver(settings) as receiver:
        sender = AE("SENDER")
        sender.add_requested_context(uid.MRImageStorage, uid.ExplicitVRLittleEndian)
        association = sender.associate("127.0.0.1", settings.port, ae_title="WILLIS")
        item.file_meta.MediaStorageSOPInstanceUID = uid.UID("1.2.3")
        real, item.SOPInstanceUID = item.SOPInstanceUID, "1.2.3"
        event_status = []
        original = association.dimse.send_msg

        def belying(primitive: Any, context_id: int) -> None:
            primitive.AffectedSOPInstanceUID = real
            original(primitive, context_id)

        association.dimse.send_msg = belying
        event_status.append(association.send_c_store(item).Status)
        del item.SeriesInstanceUID
        association.dimse.send_msg = original
        event_status.append(association.send_c_store(item).Status)
        association.release()
    assert event_status == [0xA901, 0xC000]
    assert (receiver.counts["mismatch"], receiver.counts["damaged"]) == (1, 1)
    assert held(settings) == {}


def test_a_connection_cut_in_the_middle_of_an_instance(tmp_path, pacs_settings):
    need()
    big = series(tmp_path / "big", shape=(2, 512, 512))
    settings = pacs_settings()
    with Receiver(settings):
        port = free_port()
        relay = threading.Thread(target=_relay_some, args=(port, settings.port, 700_000))
        relay.start()
        time.sleep(0.3)
        assert _send(settings, big.paths, port=port).returncode != 0
        relay.join(20)
        found = held(settings)
        assert len(found) == 1  # the first was whole, and was told so
        assert _nothing_is_half_written(settings)
        assert _send(settings, big.paths).returncode == 0
    assert held(settings) == by_uid(big.paths)


def _relay_some(port: int, to: int, most: int) -> None:
    """Pass on so many bytes to the listener, then cut both ends."""
    with socket.create_server(("127.0.0.1", port)) as door:
        near, _ = door.accept()
    far = socket.create_connection(("127.0.0.1", to))
    back = threading.Thread(target=_pour, args=(far, near), daemon=True)
    back.start()
    passed = 0
    while passed < most and (data := near.recv(min(8192, most - passed))):
        far.sendall(data)
        passed += len(data)
    for one in (far, near):
        one.shutdown(socket.SHUT_RDWR)
        one.close()


def _pour(source: socket.socket, sink: socket.socket) -> None:
    try:
        while data := source.recv(8192):
            sink.sendall(data)
    except OSError:
        return


def test_an_instance_that_is_too_large(tmp_path, pacs_settings):
    need()
    big = series(tmp_path / "big", shape=(1, 512, 512))
    small = series(tmp_path / "small", shape=(1, 20, 24), series="small")
    settings = pacs_settings(most_instance_bytes=200_000)
    with Receiver(settings) as receiver:
        assert _send(settings, big.paths).returncode != 0
        assert receiver.counts["too-large"] >= 1
        assert _send(settings, small.paths).returncode == 0
    assert held(settings) == by_uid(small.paths)


def test_a_pdu_that_announces_gigabytes(made, pacs_settings):
    settings = pacs_settings()
    with Receiver(settings):
        with socket.create_connection(("127.0.0.1", settings.port), timeout=20) as rude:
            rude.sendall(b"\x01\x00\xff\xff\xff\xff" + bytes(1000))
            assert _is_closed_by_peer(rude)
        assert _send(settings, made.paths).returncode == 0


def _is_closed_by_peer(door: socket.socket) -> bool:
    try:
        return door.recv(100) == b""
    except ConnectionError:
        return True


def test_more_associations_than_allowed(made, pacs_settings):
    settings = pacs_settings(most_associations=1)
    with Receiver(settings) as receiver:
        holder = AE("SENDER")
        holder.add_requested_context(uid.MRImageStorage)
        open_one = holder.associate("127.0.0.1", settings.port, ae_title="WILLIS")
        assert open_one.is_established
        assert _send(settings, made.paths).returncode != 0
        assert receiver.counts["association-refused"] == 1
        open_one.release()
        time.sleep(0.5)
        assert _send(settings, made.paths).returncode == 0


def test_one_listener_a_spool(pacs_settings):
    settings = pacs_settings()
    with Receiver(settings), pytest.raises(StateError, match="another process receives"):
        Receiver(settings.model_copy(update={"port": free_port()})).__enter__()


def test_what_a_killed_process_left_is_cleared(made, pacs_settings):
    settings = pacs_settings()
    parts = settings.spool / "parts"
    parts.mkdir(parents=True)
    (parts / f"{2**22 + 1}-0.part").write_bytes(b"half")
    (parts / f"{os.getppid()}-0.part").write_bytes(b"of one that lives")
    with Receiver(settings):
        assert [path.read_bytes() for path in parts.iterdir()] == [b"of one that lives"]
