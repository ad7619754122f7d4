"""A decoder that crashes or hangs is lost, and nothing else."""

import os
import signal
import time

import pytest
from harness.made_decoders import crash, doubled, hang, refuse

from willis.client.ingest.dicom.apart import Apart, DecoderLost, is_coded
from willis.client.ingest.dicom.mask_fault import MaskFault, MaskRefused


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


def test_only_codecs_need_it():
    assert not is_coded("1.2.840.10008.1.2.1")
    assert not is_coded("1.2.840.10008.1.2.1.99")
    assert is_coded("1.2.840.10008.1.2.4.70")
    assert is_coded("1.2.840.10008.1.2.5")
    assert is_coded("an unknown one")
