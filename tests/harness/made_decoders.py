"""Functions that a process apart can be asked: good, refusing, crashing, hanging."""

import os
import time

from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused


def doubled(number: int) -> int:
    return 2 * number


def refuse() -> None:
    raise MaskRefused(MaskFault.OTHER_GRID, "by 2")


def crash() -> None:
    os.abort()


def hang() -> None:
    time.sleep(3600)
