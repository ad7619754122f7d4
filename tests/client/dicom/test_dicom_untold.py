"""What goes wrong while an intake is at work names no patient, and holds up no other."""

import warnings
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from harness.made_dicom import Made, deflate, seg, series
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from willis.client.ingest.dicom import conversion, voxels
from willis.client.ingest.dicom.identity import Pseudonyms, identity_faults
from willis.client.ingest.dicom.intake import KEY_FILE, Intake, ingest
from willis.client.ingest.dicom.mask_fault import MaskRefused
from willis.client.ingest.dicom.rule import IntakeRule
from willis.client.ingest.dicom.seg_file import read_seg
from willis.shared.errors import CohortError
from willis.shared.settings import parse

NAME = "Musterfrau"
BESIDE = {"source": "nifti", "pattern": "masks/{patient}.nii.gz"}


def an_intake(folder: Path, **rule) -> Intake:
    site = folder / "site"
    site.mkdir(exist_ok=True)
    made_by = parse(rule, IntakeRule, where="rule", error=CohortError)
    memory = site / "state" / "intake"
    return Intake(folder / "export", folder / "cohort", "site-a", made_by, site / KEY_FILE, memory)


def a_patient(folder: Path, name: str, **rest) -> Made:
    made = series(folder, patient=name, **rest)
    seg(folder, made, (made.voxels > np.quantile(made.voxels, 0.9)).astype(np.uint8))
    return made


def test_a_mask_that_names_somebody_is_refused_where_deid_is_required(tmp_path):
    a_patient(tmp_path / "export", "A")
    path = tmp_path / "export" / "seg.dcm"
    item = pydicom.dcmread(path)
    item.ContentCreatorName = NAME
    item.save_as(path)
    (verdict,) = ingest(an_intake(tmp_path)).verdicts
    assert verdict.code == "named-mask"
    (verdict,) = ingest(an_intake(tmp_path, deid="site-local")).verdicts
    assert verdict.code == "taken"


@pytest.mark.parametrize("keyword", ["TextComments", "TextValue", "ReasonForVisit", "TopicAuthor"])
def test_texts_of_persons_are_looked_at(keyword):
    item = _clean()
    setattr(item, keyword, NAME)
    assert identity_faults(item, "require") == (f"identity-{keyword}",)


def test_items_are_looked_into_whatever_the_dictionary_says_of_them():
    item, inner = _clean(), Dataset()
    inner.PatientName = NAME
    item.add_new(0x00089998, "SQ", Sequence([inner]))
    assert identity_faults(item, "require") == ("identity-PatientName",)
    item = _clean()
    item.add_new(0x50003000, "OW", NAME.encode())
    assert identity_faults(item, "require") == ("identity-curve",)


def _clean() -> Dataset:
    item = Dataset()
    item.PatientIdentityRemoved, item.DeidentificationMethod = "YES", "made for a test"
    assert identity_faults(item, "require") == ()
    return item


def test_what_the_file_system_says_of_a_path_is_not_passed_on(tmp_path, monkeypatch):
    (tmp_path / "export" / "masks").mkdir(parents=True)
    series(tmp_path / "export" / NAME, patient="\U0001f600" * 64)  # 64 characters of 4 bytes
    (verdict,) = ingest(an_intake(tmp_path, label=BESIDE)).verdicts
    assert verdict.code == "outside-export"

    def denied(path: Path) -> bool:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "is_symlink", denied)
        (verdict,) = ingest(an_intake(tmp_path, label=BESIDE | {"pattern": "{folder}/{stem}.nii"})).verdicts
    assert (verdict.code, NAME in verdict.sentence) == ("missing-mask", False)


def test_a_file_that_goes_away_is_a_refusal_of_its_series_alone(tmp_path, monkeypatch):
    a_patient(tmp_path / "export" / f"{NAME}-A", "A")
    made = a_patient(tmp_path / "export" / f"{NAME}-B", "B")
    locate = conversion.Conversion._source

    def late(self, one):
        made.paths[5].unlink(missing_ok=True)
        return locate(self, one)

    monkeypatch.setattr(conversion.Conversion, "_source", late)
    result = ingest(an_intake(tmp_path))
    assert sorted(one.code for one in result.verdicts) == ["taken", "unreadable"]
    assert NAME not in str(result)


def test_what_a_library_raises_is_told_by_its_type_alone(tmp_path, monkeypatch):
    a_patient(tmp_path / "export", "A")

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError(f"value {NAME}")

    monkeypatch.setattr(voxels, "arrange", broken)
    (verdict,) = ingest(an_intake(tmp_path)).verdicts
    assert (verdict.code, verdict.refused) == ("not-converted", True)
    assert "RuntimeError" in verdict.sentence
    assert NAME not in verdict.sentence


def test_a_header_read_for_a_pattern_warns_of_nothing(tmp_path):
    series(tmp_path / "export", StudyInstanceUID=f"1.2.{NAME}")
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ingest(an_intake(tmp_path, label=BESIDE))
    assert [str(one.message) for one in told if NAME in str(one.message)] == []


def test_a_deflated_mask_is_inflated_no_further_than_a_mask_can_be(tmp_path, monkeypatch):
    a_patient(tmp_path, "A")
    path = tmp_path / "seg.dcm"
    deflate([path])
    assert read_seg(path, Pseudonyms(bytes(32))).rows == 20
    asked = []

    class Inflater:
        def decompress(self, packed: bytes, most: int) -> bytes:
            asked.append(most)
            return zlib.decompress(packed, -zlib.MAX_WBITS)

    monkeypatch.setattr(zlib, "decompressobj", lambda *_: Inflater())
    read_seg(path, Pseudonyms(bytes(32)))
    assert asked == [(256 << 20) + 2**29]


def test_frames_far_apart_span_no_mask(tmp_path):
    from willis.client.ingest.dicom.seg_alone import seg_alone

    a_patient(tmp_path, "A")
    item = pydicom.dcmread(tmp_path / "seg.dcm")
    for k, frame in enumerate(item.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = [
            -10,
            -20,
            0.01 * k if k < 3 else 5000 + 0.01 * k,
        ]
    item.save_as(tmp_path / "seg.dcm")
    with pytest.raises(MaskRefused, match=r"other voxels.*span 20 x 24 x 50"):
        seg_alone(tmp_path / "seg.dcm", pseudonyms=Pseudonyms(bytes(32)))
