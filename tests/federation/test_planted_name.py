"""A patient's name in paths, headers, errors, warnings and prints of a site: nowhere that others may look."""

import base64
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from living_federation import Federation
from nibabel import nifti1
from nibabel.loadsave import save
from recorder import Recorder

from willis.server.hub.runs import HubRun
from willis.shared.prior.draw import draw_subject
from willis.shared.prior.families import Family

pytestmark = [pytest.mark.federation, pytest.mark.timeout(900)]

FAMILY, GIVEN, BORN, NUMBER = "KOWALCZYK", "ANTONINA", "19480317", "PAT4471182"
PLANTED = (FAMILY, GIVEN, BORN, NUMBER)
NAME = f"{FAMILY}^{GIVEN}_{BORN}_{NUMBER}"
SITES = ("site-a", "site-b")


@dataclass(frozen=True)
class Told:
    """What a run left with others: files by path, and bytes on the wire."""

    run: HubRun
    texts: list[tuple[Path, bytes]]
    wire: Recorder


def plant(folder: Path) -> Path:
    """Write a cohort whose folders, files and headers name a patient; return its table."""
    place = folder / f"export of {NAME}"
    place.mkdir()
    lines = ["subject,site,image,label"]
    for number in range(12):
        image, label = draw_subject(Family.VESSELS, size=(24, 24), generator=np.random.default_rng(number))
        files = []
        for kind, voxels in (("TOF", image.astype(np.float32)), ("mask", label.astype(np.uint8))):
            volume = nifti1.Nifti1Image(voxels[..., None], np.eye(4))
            for field, size in (("descrip", 79), ("aux_file", 23), ("db_name", 17), ("intent_name", 15)):
                volume.header[field] = NAME.encode()[:size]
            tags = f"(0010,0010) PN {NAME} (0010,0030) DA {BORN} (0010,0020) LO {NUMBER}"
            volume.header.extensions.append(nifti1.Nifti1Extension("comment", tags.encode()))
            files.append(f"{NAME}_{kind}_{number}.nii.gz")
            save(volume, place / files[-1])
        lines.append(f"p{number},{SITES[number // 6]},{files[0]},{files[1]}")
    table = place / f"{FAMILY}.csv"
    table.write_text("\n".join(lines) + "\n")
    return table


def forms(word: str) -> Iterator[bytes]:
    """Yield a word as it may lie in a file or a message, in small letters."""
    raw = word.encode()
    yield raw
    yield raw.hex().encode()
    yield word.encode("utf-16-le")
    yield urllib.parse.quote(word).encode()
    for text in (raw, word.lower().encode(), word.capitalize().encode()):
        for shift in range(3):  # base64 of a text with anything before it, without the letters that mix
            coded = base64.b64encode(bytes(shift) + text).rstrip(b"=")
            yield coded[(0, 2, 3)[shift] : len(coded) - 1]


def found_in(text: bytes) -> list[str]:
    """Return the planted words that a text holds."""
    small = text.lower()
    return [word for word in PLANTED if any(form.lower() in small for form in forms(word))]


@pytest.fixture(scope="module")
def told(tmp_path_factory, tiny_study_file_in) -> Told:
    folder = tmp_path_factory.mktemp("planted")
    study = tiny_study_file_in(folder, federation={"quorum": 1})
    wire = Recorder()
    federation = Federation(
        folder / "all",
        study,
        plant(folder),
        environments={"site-a": {"WILLIS_TEST_TAMPER": "leaks", "WILLIS_TEST_NAME": NAME}},
        doors={"site-a": wire.port},
    )
    with wire.before(federation.hub), federation.alive():
        run = federation.finish(federation.start())
    return Told(run, list(federation.texts()), wire)


def test_the_look_out_finds_what_is_there():
    for word in PLANTED:
        for text in (word, word.lower(), f"x{word}", f"/a b/{word}.dcm"):
            assert found_in(text.encode()) == [word]
            assert found_in(base64.b64encode(text.encode())) == [word] or len(text) < 9
        assert found_in(f"PN {word}".encode("utf-16-le")) == [word]
    assert found_in(b"site-a") == []


def test_what_went_wrong_left_as_a_code(told):
    refused = [record.refused for record in told.run.rounds()]
    assert refused == [{"site-a": "internal"}, {"site-a": "internal"}, {}]


def test_the_name_is_in_nothing_that_others_read(told):
    assert len(told.texts) > 20
    assert any(path.name == "state.db" for path, _ in told.texts)
    holders = {path.name: found_in(text) for path, text in told.texts if found_in(text)}
    assert holders == {}
    assert [path for path, _ in told.texts if found_in(path.name.encode())] == []


def test_the_name_was_not_on_the_wire(told):
    assert b"internal" in told.wire.sent, "the recorder saw what did leave"
    assert b"site-a" in told.wire.sent
    assert len(told.wire.received) > 1000
    assert found_in(bytes(told.wire.sent)) == found_in(bytes(told.wire.received)) == []
