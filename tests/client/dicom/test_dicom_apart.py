"""A decoder that crashes or hangs is lost, and nothing else."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness.made_decoders import crash, doubled, hang, refuse

from willis.client.ingest.dicom.apart import Apart, DecoderLost, is_coded
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused

_HANGS = """
import os, time
from willis.client.ingest.dicom.apart import Apart
apart = Apart()
print(apart(os.getpid), flush=True)
apart(time.sleep, 3600)
"""


def test_results_and_refusals_come_back():
    with Apart() as apart:
        assert apart(doubled, 21) == 42
        with pytest.raises(MaskRefused) as refusal:
            apart(refuse)
        assert refusal.value.fault is MaskFault.OTHER_GRID
        assert (refusal.value.detail, str(refusal.value).endswith("(by 2)")) == ("by 2", True)
        assert apart(doubled, 1) == 2


def test_a_crash_is_told_and_the_next_call_is_answered():
    with Apart() as apart:
        with pytest.raises(DecoderLost, match="ended"):
            apart(crash)
        assert apart(doubled, 4) == 8


def test_a_hang_is_ended():
    with Apart(patience_s=3) as apart:
        assert apart(doubled, 4) == 8
        began = time.monotonic()
        with pytest.raises(DecoderLost, match="within 3 s"):
            apart(hang)
        assert time.monotonic() - began < 20
        assert apart(doubled, 5) == 10


def test_nothing_is_left_when_it_is_closed():
    apart = Apart()
    pid = apart(os.getpid)
    assert pid != os.getpid()
    apart.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
    apart.close()


def test_a_hanging_decoder_ends_with_an_intake_that_is_killed():
    with subprocess.Popen([sys.executable, "-c", _HANGS], stdout=subprocess.PIPE, text=True) as intake:
        assert intake.stdout is not None
        pid = int(intake.stdout.readline())
        time.sleep(1)  # it hangs now
        intake.kill()
    until = time.monotonic() + 20
    while _lives(pid):
        assert time.monotonic() < until
        time.sleep(0.1)


def _lives(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_only_codecs_need_it():
    assert not is_coded("1.2.840.10008.1.2.1")
    assert not is_coded("1.2.840.10008.1.2.1.99")
    assert is_coded("1.2.840.10008.1.2.4.70")
    assert is_coded("1.2.840.10008.1.2.5")
    assert is_coded("an unknown one")
