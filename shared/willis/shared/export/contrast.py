"""The contrasts of MRI that a name in BIDS can tell, of those that images without a sequence's maps have."""

from typing import Literal

Suffix = Literal["T1w", "T2w", "PDw", "T2starw", "FLAIR", "angio"]
