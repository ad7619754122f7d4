"""Values of a header as text, read straight from the file's bytes where those are plain."""

import re
from functools import cache

from pydicom._dicom_dict import DicomDictionary
from pydicom.datadict import tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.tag import BaseTag

_PLAIN = re.compile(rb"[ -~]*\0*")
_ONE = frozenset({"LO", "SH", "UI", "ST", "LT", "UT"})  # taken here where there is no backslash
_SEVERAL = frozenset({"CS", "DA", "TM", "DT", "AS"})
_NUMBERS = frozenset({"DS", "IS"})


def text_of(dataset: Dataset, keyword: str) -> str:
    """Return a value as text, "" where absent or not readable; several are joined as DICOM does."""
    plain = plain_text(dataset, keyword)
    return _converted(dataset, keyword) if plain is None else plain


def plain_text(dataset: Dataset, keyword: str) -> str | None:
    """Return what pydicom's conversion would, without it: for printable ASCII as read from a file.

    Numbers written as text come as they are written, whether or not they are numbers.

    Returns:
        "" where the attribute is absent or empty; None where pydicom has to convert it.
    """
    tag = _tag(keyword)
    raw = None if tag is None else dataset.get_item(tag, keep_deferred=True)
    if raw is None:
        return "" if tag is not None else None
    if not isinstance(raw, RawDataElement) or raw.value is None:
        return None
    value = raw.value
    if not value:
        return ""
    vr = raw.VR or _vr(raw.tag)
    if vr == "US":
        order = "little" if raw.is_little_endian else "big"
        return str(int.from_bytes(value, order)) if len(value) == 2 else None
    if not _PLAIN.fullmatch(value):
        return None
    text = value.rstrip(b" \0").decode("ascii")
    if vr in _SEVERAL or (vr in _ONE and "\\" not in text):
        return text.strip()
    if vr in _NUMBERS:
        return "\\".join(one.strip() for one in text.split("\\"))
    return None


def is_empty(dataset: Dataset, tag: int) -> bool:
    """Whether an attribute that is there was written without a value."""
    raw = dataset.get_item(BaseTag(tag), keep_deferred=True)
    return isinstance(raw, RawDataElement) and raw.length == 0 and not raw.value


def _converted(dataset: Dataset, keyword: str) -> str:
    try:
        value = dataset.get(keyword)
        if value is None:
            return ""
        several = (
            not isinstance(value, str | bytes)
            and hasattr(value, "__iter__")
            and not hasattr(value, "components")
        )
        return "\\".join(str(one) for one in value).strip() if several else str(value).strip()
    except Exception:  # whatever a library says of a damaged value may quote it
        return ""


@cache
def _tag(keyword: str) -> BaseTag | None:
    tag = tag_for_keyword(keyword)
    return None if tag is None else BaseTag(tag)


def _vr(tag: int) -> str:
    return DicomDictionary[int(tag)][0] if int(tag) in DicomDictionary else ""
