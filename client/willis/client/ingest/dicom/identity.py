"""Who a file is of: pseudonyms under the site's key, and whether a header names somebody."""

import base64
import contextlib
import csv
import hmac
import os
import re
import stat
import tempfile
import unicodedata
from collections.abc import Iterator, Mapping
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from pydicom.dataset import Dataset

from willis.client.ingest.dicom.header_text import is_empty, text_of
from willis.client.ingest.dicom.identifying import (
    IDENTIFYING,
    RETAIN_SAFE_PRIVATE,
    SEQUENCES,
    names_nobody,
    retained,
)
from willis.shared.errors import CohortError

KEY_BYTES = 32
POLICIES = ("require", "site-local")
_UID = re.compile(r"[0-9.]{1,64}")
_DEEPEST = 8
_MAPPING_COLUMNS = ("study", "patient")


def make_key(path: Path) -> None:
    """Make a site's key of pseudonyms, for its owner alone. A key that is there is never overwritten.

    Raises:
        CohortError: There is something at ``path``, or it cannot be written.
    """
    try:
        handle, part = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(os.urandom(KEY_BYTES))
                file.flush()
                os.fsync(file.fileno())
            os.link(part, path)  # fails where something is there, and never shows half a key
        finally:
            os.unlink(part)
    except FileExistsError:
        raise CohortError(f"{path} is there already; a key is never overwritten") from None
    except OSError as fault:
        raise CohortError(
            f"cannot make the key {path}: {fault.strerror}; let its folder be written"
        ) from None


class Pseudonyms:
    """Keyed digests that cannot be undone without the key: HMAC-SHA256, a key derived for each kind.

    The same value of one kind always gives the same digest; the same value of two kinds gives two.
    """

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ValueError(f"a key has {KEY_BYTES} bytes, got {len(key)}")
        self._key = bytes(key)
        self._derived: dict[str, bytes] = {}

    def __repr__(self) -> str:
        return f"Pseudonyms(fingerprint={self.fingerprint!r})"

    @classmethod
    def open(cls, path: Path) -> "Pseudonyms":
        """Read a key.

        Raises:
            CohortError: It is missing, no plain file, open to others than its owner, or no key.
        """
        try:
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
            with os.fdopen(handle, "rb") as file:
                facts = os.fstat(file.fileno())
                if not stat.S_ISREG(facts.st_mode):
                    raise CohortError(f"the key {path} is no plain file; name one made by make_key")
                key = file.read(KEY_BYTES + 1)
        except OSError as fault:
            raise CohortError(f"cannot read the key {path}: {fault.strerror}") from None
        mode = stat.S_IMODE(facts.st_mode)
        if mode & 0o077:
            raise CohortError(f"the key {path} has mode {mode:04o}, others can read it; chmod 0600 it")
        if len(key) != KEY_BYTES:
            raise CohortError(f"the key {path} is not of {KEY_BYTES} bytes; restore it from its copy")
        return cls(key)

    @property
    def fingerprint(self) -> str:
        """Tell one key from another; 16 hex digits, safe to write."""
        return self._digest("fingerprint", b"").hex()[:16]

    def of(self, kind: str, value: str) -> str:
        """Return the pseudonym of a value: 16 hex digits."""
        return self._digest(f"of/{kind}", value.encode("utf-8", "surrogateescape")).hex()[:16]

    def subject(self, patient_id: str) -> str:
        """Return a patient's pseudonym: ``p-`` and 16 letters and digits.

        The PatientID is normalised (Unicode NFKC, blanks at its ends off; capitals stay). Its issuer does not
        count: the same PatientID from two issuers is one subject on purpose.
        It protects both: a subject's share is
        bounded, however many people it is.

        Raises:
            ValueError: It is empty.
        """
        told = normalised(patient_id)
        if not told:
            raise ValueError("an empty PatientID has no pseudonym; give a mapping of its study")
        digest = self._digest("subject", told.encode("utf-8", "replace"))
        return f"p-{base64.b32encode(digest[:10]).decode().lower()}"

    def _digest(self, label: str, value: bytes) -> bytes:
        if label not in self._derived:
            info = f"willis/pseudonyms/1/{label}".encode()
            self._derived[label] = HKDF(SHA256(), 32, salt=None, info=info).derive(self._key)
        return hmac.digest(self._derived[label], value, "sha256")


def normalised(patient_id: str) -> str:
    """Return a PatientID in the one form that pseudonyms are made from."""
    return unicodedata.normalize("NFKC", patient_id).replace("\0", "").strip()


def read_mapping(path: Path) -> Mapping[str, str]:
    """Read whose the studies are that lack a PatientID: CSV in UTF-8 with columns ``study,patient``.

    ``study`` is a StudyInstanceUID, ``patient`` the PatientID as other studies of the patient have it. Used
    only where a file has no PatientID of its own.

    Raises:
        CohortError: With the number of every line that does not fit, and never what it holds.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = tuple(cell.strip() for cell in next(reader, []))
            rows = (row for row in reader if any(row))
            lines = [(reader.line_num, [cell.strip() for cell in row]) for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as fault:
        raise CohortError(f"cannot read {path} as CSV in UTF-8: {type(fault).__name__}") from None
    if header != _MAPPING_COLUMNS:
        raise CohortError(f"the first line of {path} must be {','.join(_MAPPING_COLUMNS)}")
    mapping: dict[str, str] = {}
    problems = [f"line {line}: {fault}" for line, row in lines if (fault := _taken_in(row, mapping))]
    if problems:
        raise CohortError(f"{path} does not fit", problems)
    return mapping


def _taken_in(cells: list[str], mapping: dict[str, str]) -> str | None:
    if len(cells) != len(_MAPPING_COLUMNS):
        return f"has {len(cells)} cells, must have {len(_MAPPING_COLUMNS)}"
    study, patient = cells[0], normalised(cells[1])
    if not _UID.fullmatch(study):
        return "study is no StudyInstanceUID: digits and points, at most 64"
    if not patient:
        return "patient is empty; give the PatientID, or take the line out"
    if mapping.setdefault(study, patient) != patient:
        return "its study is given to another patient above; keep one"
    return None


def check_policy(deid: str) -> None:
    """Refuse a policy that there is not.

    Raises:
        ValueError: Naming the two.
    """
    if deid not in POLICIES:
        raise ValueError(f'deid must be "require" or "site-local", got {deid!r}; there is no "off"')


def identity_faults(dataset: Dataset, deid: str) -> tuple[str, ...]:
    """Say what in a header may name somebody, as codes with DICOM keywords and never with values.

    ``require``: PatientIdentityRemoved is YES, a method is told, identifying attributes
    (:mod:`willis.client.ingest.dicom.identifying`) are empty or dummies at every depth, there are no private
    attributes (unless Retain Safe Private is told) and no overlays. ``site-local``: they may be there;
    only a white list is read. Text burned into the pixels is refused under both.

    Raises:
        ValueError: There is no such policy.
    """
    check_policy(deid)
    burned = ("burned-in",) if text_of(dataset, "BurnedInAnnotation").upper() == "YES" else ()
    if deid == "site-local":
        return burned
    codes = _method_codes(dataset)
    faults: dict[str, None] = dict.fromkeys(burned)
    if text_of(dataset, "PatientIdentityRemoved").upper() != "YES":
        faults["identity-PatientIdentityRemoved"] = None
    if not codes and not text_of(dataset, "DeidentificationMethod"):
        faults["identity-DeidentificationMethod"] = None
    if any(0x6000 <= tag >> 16 <= 0x60FF for tag in list(dataset.keys())):
        faults["overlay"] = None
    patient = normalised(text_of(dataset, "PatientID"))
    meta = getattr(dataset, "file_meta", None)
    kept = (retained(codes), RETAIN_SAFE_PRIVATE in codes)
    for part in (dataset, *(() if meta is None else (meta,))):
        faults.update(dict.fromkeys(_named(part, patient, kept=kept, depth=0)))
    return tuple(faults)


def _method_codes(dataset: Dataset) -> frozenset[str]:
    with contextlib.suppress(Exception):  # a sequence that cannot be read tells no method, and so is refused
        items = dataset.get("DeidentificationMethodCodeSequence") or ()
        return frozenset(filter(None, (text_of(item, "CodeValue") for item in items)))
    return frozenset()


def _named(dataset: Dataset, patient: str, *, kept: tuple[frozenset[int], bool], depth: int) -> Iterator[str]:
    """Yield faults of one data set and of all within."""
    tags, private = kept
    for element in list(dataset.values()):
        number = int(element.tag)
        if number >> 16 & 1 or number == 0x00020102:
            if not private:
                yield "identity-private"
        elif number in IDENTIFYING and number not in tags:
            if not _nobody(dataset, number, patient):
                yield f"identity-{IDENTIFYING[number]}"
        elif 0x5000 <= number >> 16 <= 0x50FF:
            yield "identity-curve"
        elif number in SEQUENCES or _is_sequence(dataset, number, element.VR):
            yield from _named_within(dataset, number, patient, kept=kept, depth=depth)


def _is_sequence(dataset: Dataset, tag: int, vr: str | None) -> bool:
    """Whether an attribute holds items, whatever the dictionary says of it, or says nothing."""
    try:
        return vr in (None, "SQ", "UN") and dataset[tag].VR == "SQ"
    except Exception:  # what cannot be read is looked into, and refused there
        return True


def _nobody(dataset: Dataset, tag: int, patient: str) -> bool:
    if is_empty(dataset, tag):
        return True
    try:
        value = dataset[tag].value
        if tag in SEQUENCES:
            return not value
        several = isinstance(value, list) or hasattr(value, "append")
        texts = [str(one) for one in value] if several else ["" if value is None else str(value)]
    except Exception:  # what cannot be read cannot be shown to name nobody
        return False
    return all(names_nobody(IDENTIFYING[tag], text, patient) for text in texts)


def _named_within(
    dataset: Dataset, tag: int, patient: str, *, kept: tuple[frozenset[int], bool], depth: int
) -> Iterator[str]:
    if depth >= _DEEPEST:
        yield "identity-depth"
        return
    try:
        items = list(dataset[tag].value or ())
    except Exception:  # as above
        yield "identity-unreadable"
        return
    for item in items:
        yield from _named(item, patient, kept=kept, depth=depth + 1)
