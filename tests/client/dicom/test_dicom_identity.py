"""Keys, pseudonyms, the mapping of missing PatientIDs, and the verdict on de-identification."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.identity import Pseudonyms, identity_faults, make_key, read_mapping
from willis.shared.errors import CohortError


def clean(**tags: object) -> Dataset:
    """Return a header that ``require`` accepts, with changes."""
    item = Dataset()
    item.PatientID, item.PatientName, item.PatientBirthDate = "PAT-1", "PAT-1", ""
    item.PatientIdentityRemoved, item.DeidentificationMethod = "YES", "by hand"
    for keyword, value in tags.items():
        setattr(item, keyword, value)
    return item


def coded(code: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator = code, "DCM"
    return [item]


def test_a_key_is_private_whole_and_never_overwritten(tmp_path: Path):
    path = tmp_path / "key"
    make_key(path)
    before = path.read_bytes()
    assert len(before) == 32
    assert path.stat().st_mode & 0o777 == 0o600
    with pytest.raises(CohortError, match="never overwritten"):
        make_key(path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == ["key"]
    assert before.hex() not in repr(Pseudonyms.open(path))
    assert repr(before) not in repr(Pseudonyms.open(path))


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda path: path.chmod(0o640), "0640"),
        (lambda path: path.write_bytes(b"short"), "not of 32 bytes"),
        (lambda path: path.unlink(), "cannot read"),
        (lambda path: (path.rename(path.with_name("there")), path.symlink_to("there")), "cannot read"),
    ],
)
def test_an_unfit_key_is_refused(tmp_path: Path, spoil: Callable[[Path], object], said: str):
    path = tmp_path / "key"
    make_key(path)
    spoil(path)
    with pytest.raises(CohortError, match=said):
        Pseudonyms.open(path)


def test_pseudonyms_stay_and_meet_and_part():
    mine, again, other = Pseudonyms(b"a" * 32), Pseudonyms(b"a" * 32), Pseudonyms(b"b" * 32)
    assert re.fullmatch(r"p-[a-z2-7]{16}", mine.subject("PAT-1"))
    assert re.fullmatch(r"[0-9a-f]{16}", mine.of("uid", "1.2.3"))
    assert mine.subject("PAT-1") == again.subject("  PAT-1 \0") == mine.subject("\uff30\uff21\uff34-1")
    assert len({one.subject(who) for one in (mine, other) for who in ("PAT-1", "pat-1")}) == 4
    assert mine.of("uid", "1.2.3") != mine.of("series", "1.2.3")
    assert mine.fingerprint != other.fingerprint
    with pytest.raises(ValueError, match="mapping"):
        mine.subject("  ")


def test_a_mapping_is_read_and_its_faults_are_lines_without_values(tmp_path: Path):
    path = tmp_path / "mapping.csv"
    path.write_text("study,patient\n1.2.3, MEIER-7 \n1.2.4,MEIER-7\n")
    assert read_mapping(path) == {"1.2.3": "MEIER-7", "1.2.4": "MEIER-7"}
    path.write_text("study,patient\n1.2.3,MEIER-7\n1.2.3,MEIER-8\nMEIER,1\n1.2.5,\n1.2.6\n")
    with pytest.raises(CohortError) as told:
        read_mapping(path)
    assert [re.match(r"line \d", problem)[0] for problem in told.value.problems] == [  # type: ignore[index]
        "line 3", "line 4", "line 5", "line 6",
    ]  # fmt: skip
    assert "MEIER" not in str(told.value)
    assert "1.2.3" not in str(told.value)
    path.write_text("a;b\n")
    with pytest.raises(CohortError, match="study,patient"):
        read_mapping(path)


@pytest.mark.parametrize(
    "name", ["", "PAT-1", "^PAT-1", "ANON^SUBJECT01", "SYNTHETIC^SUBJECT01", "Anonymous", "XXX"]
)
def test_names_that_name_nobody_are_accepted(name: str):
    assert identity_faults(clean(PatientName=name), "require") == ()


@pytest.mark.parametrize(
    "name", ["Meier^Anna", "ANON^MEIER", "Anonby^Ola", "ANON^19610203", "PAT-1^Anna", "Xaver"]
)
def test_names_that_may_name_somebody_are_told_by_their_tag_alone(name: str):
    assert identity_faults(clean(PatientName=name), "require") == ("identity-PatientName",)
    assert identity_faults(clean(PatientName=name), "site-local") == ()


@pytest.mark.parametrize(
    ("tags", "faults"),
    [
        ({"PatientIdentityRemoved": "NO"}, ("identity-PatientIdentityRemoved",)),
        ({"DeidentificationMethod": ""}, ("identity-DeidentificationMethod",)),
        ({"PatientBirthDate": "19610203"}, ("identity-PatientBirthDate",)),
        ({"PatientBirthDate": "00000000"}, ()),
        ({"AccessionNumber": "A123"}, ("identity-AccessionNumber",)),
        ({"StudyID": "1"}, ()),
        ({"StudyID": "1234567"}, ("identity-StudyID",)),
        ({"OtherPatientNames": ["", "Meier^Anna"]}, ("identity-OtherPatientNames",)),
        ({"InstitutionName": "St Anna"}, ("identity-InstitutionName",)),
        ({"InstitutionName": "A", "DeidentificationMethodCodeSequence": coded("113112")}, ()),
        ({"DeviceSerialNumber": "42"}, ("identity-DeviceSerialNumber",)),
        ({"ImageComments": "for Anna"}, ("identity-ImageComments",)),
        ({"RequestAttributesSequence": [clean(PatientName="Meier^A")]}, ("identity-PatientName",)),
        ({"BurnedInAnnotation": "YES"}, ("burned-in",)),
    ],
)
def test_the_basic_profile_is_asked_of_every_tag(tags: dict, faults: tuple[str, ...]):
    assert identity_faults(clean(**tags), "require") == faults


def test_private_tags_and_overlays():
    item = clean(BurnedInAnnotation="YES")
    item.private_block(0x0019, "MEIER", create=True).add_new(1, "LO", "Meier^Anna")
    item.add_new(0x60003000, "OW", b"\0\0")
    assert identity_faults(item, "require") == ("burned-in", "overlay", "identity-private")
    assert identity_faults(item, "site-local") == ("burned-in",)
    del item[0x60003000]
    item.DeidentificationMethodCodeSequence = coded("113111")
    assert identity_faults(item, "require") == ("burned-in",)


def test_there_is_no_off():
    with pytest.raises(ValueError, match=r'"require" or "site-local".*no "off"'):
        identity_faults(clean(), "off")


def test_the_real_export_is_de_identified(real_data: Path):
    export = real_data / "dicom_export_aera15T"
    if not export.is_dir():
        pytest.skip(f"no real export at {export}")
    found = {identity_faults(dcmread(path, stop_before_pixels=True), "require") for path in export.iterdir()}
    assert found == {()}
