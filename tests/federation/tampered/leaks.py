"""A site whose code, in every round in another way, lets go of what ``WILLIS_TEST_NAME`` says.

Round 1: an error with the name in its text, in its cause's text and in its type's arguments. Round 2: the
process is left with the name as its last word. Round 3: a warning, a line printed and a line logged have it,
and the round goes well.
"""

import logging
import os
import sys
import warnings
from typing import Any

MODULE = "willis.client.training"


def tamper(training: Any) -> None:
    honest, name = training.train_round, os.environ["WILLIS_TEST_NAME"]

    def leak(order, settings):
        if order.round == 1:
            try:
                raise FileNotFoundError(2, f"no {name}", f"/export/{name}.dcm")
            except OSError as fault:
                raise ValueError(f"cannot read (0010,0010) PN: {name}", {"PatientName": name}) from fault
        if order.round == 2:
            sys.exit(f"cannot go on with {name}")
        warnings.warn(f"{name}.nii.gz has no sform", UserWarning, stacklevel=1)
        print(f"reading {name}", flush=True)
        print(f"reading {name}", file=sys.stderr, flush=True)
        logging.getLogger("nibabel.global").warning("pixdim of %s is negative", name)
        return honest(order, settings)

    training.train_round = leak
