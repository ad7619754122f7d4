"""The cohort's table: its header, its characters, every row accounted for."""

import json
import re
from pathlib import Path

import pytest
from harness.made_cohort import faults, run_check, table
from hypothesis import given
from hypothesis import strategies as st

from willis.client.cohort import read_cohort
from willis.client.ingest.check import Fault, _row_faults, check_cohort
from willis.client.ingest.table import COLUMNS, Row, Table, read_table
from willis.shared.errors import CohortError


def test_columns_may_come_in_any_order_with_a_byte_order_mark_and_blanks(folder):
    path = table(folder, " label.nii.gz , p1 ,image.nii.gz,a", header="﻿label, subject,image,site")
    row = read_table(path).rows[0]
    assert (row.subject, row.site, row.line) == ("p1", "a", 2)
    assert row.label == folder / "label.nii.gz"
    assert "p1" not in repr(row)


@pytest.mark.parametrize(
    ("header", "problems"),
    [
        ("subject,site,image,mask", ["the header lacks label; ", "column 'mask' is unknown"]),
        ("subject,site,image,label,birth", ["column 'birth' is unknown"]),
        ("subject,site,image,label,subject", ['column "subject" is named twice']),
        (
            "p0,a,i.nii,l.nii",
            ["the header lacks subject, site, image, label; the first line", *["column "] * 4],
        ),
        (
            "subject;site;image;label",
            ["the header lacks", "it is separated by semicolons; separate columns by commas"],
        ),
        (
            "subject\tsite\timage\tlabel",
            ["the header lacks", "it is separated by tabs; separate columns by commas"],
        ),
        ("", ["the header lacks subject, site, image, label"]),
    ],
)
def test_a_header_that_does_not_fit_is_told_once_and_not_for_each_row(folder, header, problems):
    path = table(folder, *[f"p{i},a,image.nii.gz,label.nii.gz" for i in range(9)], header=header)
    with pytest.raises(CohortError, match=r"the header of .*cohort\.csv must be subject,site") as error:
        check_cohort(path)
    assert len(error.value.problems) == len(problems)
    assert all(map(str.startswith, error.value.problems, problems))
    assert "line 2" not in str(error.value)
    told = run_check(str(path))
    assert (told.exit_code, told.stderr) == (2, f"willis: {error.value}\n")
    assert json.loads(run_check(str(path), "--json").stdout)["message"] == str(error.value)


@pytest.mark.parametrize("hidden", ["\0", "\x1b[2J", "\x07", "\u200b", "\u202e", "\x85", "\u2028", "\xad"])
def test_a_character_that_nobody_sees_is_refused_with_the_row_and_not_printed(folder, hidden):
    """Unseen, it would make two patients of one; or do what a terminal does at it."""
    good = "p1,a,image.nii.gz,label.nii.gz"
    path = table(folder, good, f"p{hidden}2,a,image2.nii.gz,label2.nii.gz", f"p3,a{hidden}b,,label2.nii.gz")
    assert faults(path)[0] == set()
    assert all(Fault.HIDDEN_CHARACTER in found for found in faults(path)[1:])
    first = check_cohort(path).refused[0]
    assert (first.row.line, f"the subject holds U+{ord(hidden[0]):04X}" in first.reasons[0].text) == (3, True)
    told = run_check(str(path))
    assert told.exit_code == 1
    assert hidden[0] not in told.output
    assert re.search(r"\W3\W.*hidden-character", told.output)


@pytest.mark.parametrize("cells", ["ima\0ge.nii.gz,label.nii.gz", "image.nii.gz,label\0.nii.gz"])
def test_a_path_that_no_disk_can_hold_is_refused_and_not_opened(folder, cells):
    assert faults(table(folder, f"p1,a,{cells}")) == [{Fault.HIDDEN_CHARACTER}]


@given(st.text(st.characters(categories=["L", "N", "P", "S"]), min_size=1, max_size=12))
def test_a_name_of_letters_digits_and_marks_is_not_refused(name):
    row = Row(line=2, subject=name, site="a", image=Path("i.png"), label=Path("l.png"))
    assert list(_row_faults(row, Table(Path("cohort.csv"), COLUMNS, (row,)))) == []


@pytest.mark.parametrize("content", [b"", b"subject,site,image,label\n", b"\xff\xfe\x00", b'a,"b\nc'])
def test_a_table_that_cannot_be_read_raises(tmp_path, content):
    (tmp_path / "cohort.csv").write_bytes(content)
    with pytest.raises(CohortError, match=r"cohort\.csv"):
        check_cohort(tmp_path / "cohort.csv")
    with pytest.raises(CohortError, match="FileNotFoundError"):
        read_cohort(tmp_path / "none.csv")


def test_reading_keeps_usable_rows_and_raises_when_there_is_none(folder):
    rows = ["p2,b,image.nii.gz,label.nii.gz", "p1,b,image2.nii.gz,label2.nii.gz", "p3,a,no.nii,label.nii.gz"]
    rows += ["p1,b,,label2.nii.gz"]
    cohort = read_cohort(table(folder, *rows[:2], rows[3]))
    assert [(s.name, s.site, len(s.scans)) for s in cohort.subjects] == [("p1", "b", 2), ("p2", "b", 1)]
    with pytest.raises(CohortError, match="none of 1 rows") as error:
        read_cohort(table(folder, "p3,a,no.nii,image.nii.gz"))
    assert len(error.value.problems) == 1
    assert "line 2" in error.value.problems[0]
