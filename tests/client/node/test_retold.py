"""What a log keeps of what a training process printed: never a library's words."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from willis.client.node.retold import retold
from willis.client.wall import without_text

NAME = "KOWALCZYK^ANTONINA"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (f"reading {NAME}", {}),
        ("", {}),
        (f"ValueError: cannot read {NAME}", {"error": "ValueError"}),
        (f"nibabel.spatialimages.HeaderDataError: {NAME}", {"error": "HeaderDataError"}),
        ("KeyboardInterrupt", {"error": "KeyboardInterrupt"}),
        (
            f"/opt/nibabel/nifti1.py:28: UserWarning: {NAME}.nii has no sform",
            {"error": "UserWarning", "place": "nifti1.py:28"},
        ),
        (f'  File "/srv/{NAME}/load.py", line 7, in <module>', {"place": "load.py:7"}),
        (f"{NAME}.nii.gz:12: odd", {}),
        ("\x1b[92mINFO \x1b[0m:      Start `flwr-clientapp` process", None),
        ("INFO :      ", None),
        (f"INFO :      Start {NAME}", {}),
        (json.dumps({"text": NAME}), {}),
    ],
)
def test_of_a_line_stay_its_kind_and_its_place(line, told):
    plain = line.replace("\x1b[92m", "").replace("\x1b[0m", "").rstrip()
    assert retold(line) == ({"text": plain} if told is None else {"withheld": len(plain), **told})


def test_what_the_wall_says_stays_whole():
    line = without_text(ValueError(NAME))
    assert retold(line) == json.loads(line)
    assert NAME not in line


@given(before=st.text(), after=st.text())
def test_a_name_never_stays(before, after):
    for line in (before + NAME + after, before + " " + NAME, f"{before}: {NAME}: {after}"):
        assert NAME not in json.dumps(retold(line))
