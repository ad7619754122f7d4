"""The command ``willis cohort check``: how it ends and what it prints."""

import json

from harness.made_cohort import run_check, table


def test_the_command_ends_with_0_1_or_2(folder):
    good, bad = "p1,a,image.nii.gz,label.nii.gz", "p2,a,no[i].nii,label2.nii.gz"
    assert run_check(str(table(folder, good))).exit_code == 0
    some = run_check(str(table(folder, good, bad)))
    assert some.exit_code == 1
    assert "missing-image" in some.output
    assert "2 rows read: 1 accepted, 1 refused" in some.output
    assert run_check(str(table(folder, bad))).exit_code == 2
    assert run_check(str(folder / "none.csv")).exit_code == 2
    assert "Example: willis cohort check" in run_check("--help").output


def test_the_command_counts_rows_without_an_image_and_ends_with_0(folder):
    whole, mask = "p1,a,image.nii.gz,label.nii.gz", "p2,a,,label2.nii.gz"
    told = run_check(str(table(folder, whole, mask)))
    assert told.exit_code == 0
    words = " ".join(told.output.split())
    assert "1 accepted rows have no image, only a mask: generators of images and U-nets cannot train" in words
    assert json.loads(run_check(str(folder / "cohort.csv"), "--json").stdout)["without_image"] == 1
    assert "no image" not in run_check(str(table(folder, whole))).output
    refused = table(folder, whole, "p3,,,label2.nii.gz")  # a refused row is told by its fault alone
    assert json.loads(run_check(str(refused), "--json").stdout)["without_image"] == 0


def test_the_command_prints_json_with_every_row(folder):
    path = table(folder, "p1,a,image.nii.gz,label.nii.gz", *[f"q{i},a,no.nii,no.nii" for i in range(60)])
    values = json.loads(run_check(str(path), "--json").stdout)
    assert (values["read"], values["accepted"], len(values["refused"])) == (61, 1, 60)
    assert values["reasons"] == {"shared-file": 60, "missing-image": 60, "missing-label": 60}
    assert values["sites"] == {"a": 1}
    assert "10 more refused rows" in run_check(str(path)).output
    broken = run_check(str(folder / "none.csv"), "--json")
    assert json.loads(broken.stdout)["error"] == "cohort"
