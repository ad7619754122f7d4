"""What is taken over the network: which classes of instance, in which lossless transfer syntaxes."""

import re
from types import MappingProxyType

from pydicom import uid

CLASSES = MappingProxyType(
    {
        str(uid.MRImageStorage): "mr",
        str(uid.EnhancedMRImageStorage): "enhanced-mr",
        str(uid.CTImageStorage): "ct",
        str(uid.EnhancedCTImageStorage): "enhanced-ct",
        str(uid.SegmentationStorage): "seg",
        "1.2.840.10008.5.1.4.1.1.66.7": "label-map-seg",
        str(uid.RTStructureSetStorage): "rtstruct",  # taken, so that intake can say why it is of no use
    }
)
SYNTAXES = (
    str(uid.ExplicitVRLittleEndian),
    str(uid.ImplicitVRLittleEndian),
    str(uid.JPEGLosslessSV1),
    str(uid.JPEGLossless),
    str(uid.JPEGLSLossless),
    str(uid.JPEG2000Lossless),
    str(uid.RLELossless),
    str(uid.DeflatedExplicitVRLittleEndian),
    str(uid.ExplicitVRBigEndian),
)
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_LONGEST_UID = 64


def is_uid(text: str) -> bool:
    """Whether a text has the form of a DICOM UID: digits and dots, at most 64."""
    return len(text) <= _LONGEST_UID and _UID.fullmatch(text) is not None
