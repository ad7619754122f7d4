"""The coordinator's spending book: it remembers, survives a torn line, and takes the worst site."""

import pytest

from willis.server.ledger import SpendingBook
from willis.shared.errors import StateError
from willis.shared.privacy import PrivacySpent, PrivacyUnit, Relation


def figure(
    epsilon: float, *, unit: PrivacyUnit = PrivacyUnit.SUBJECT, delta: float = 1e-5, **patient
) -> PrivacySpent:
    return PrivacySpent(
        epsilon=epsilon, delta=delta, unit=unit, relation=Relation.ADD_OR_REMOVE, accountant="PLD", **patient
    )


@pytest.fixture
def path(tmp_path):
    return tmp_path / "server" / "spending.jsonl"


@pytest.fixture
def book(path):
    book = SpendingBook(path)
    book.record(1, "north", figure(1.0), "a1")
    book.record(1, "south", figure(0.5), "b1")
    book.record(2, "north", figure(1.5), "a2")
    return book


def test_an_empty_book_says_nothing(path):
    book = SpendingBook(path)
    assert book.latest() == {}
    assert book.network() is None
    assert path.exists()


def test_latest_by_hand(book):
    assert book.latest() == {"north": figure(1.5), "south": figure(0.5)}
    assert book.heads() == {"north": "a2", "south": "b1"}


def test_the_network_is_the_worst_site_and_not_the_sum(book):
    assert book.network() == figure(1.5)


def test_reopened_it_goes_on(book, path):
    again = SpendingBook(path)
    again.record(2, "south", figure(2.0), "b2")
    assert book.latest() == again.latest() == {"north": figure(1.5), "south": figure(2.0)}
    assert [(line.round, line.site) for line in again.lines()] == [
        (1, "north"),
        (1, "south"),
        (2, "north"),
        (2, "south"),
    ]


def test_a_round_told_twice_counts_once(book):
    book.record(2, "north", figure(1.5), "a2")
    assert book.latest()["north"] == figure(1.5)
    assert len(book.lines()) == 4


def test_a_smaller_figure_undoes_no_loss(book):
    book.record(3, "north", figure(0.1), "a3")
    assert book.latest()["north"] == figure(1.5)
    assert book.heads()["north"] == "a3"


def test_a_torn_last_line_is_cut_wherever_it_tore(book, path):
    whole = path.read_bytes()
    last = whole.rfind(b"\n", 0, -1) + 1
    for end in range(last + 1, len(whole)):
        path.write_bytes(whole[:end])
        again = SpendingBook(path)
        assert path.read_bytes() == whole[:last]
        assert again.latest() == {"north": figure(1.0), "south": figure(0.5)}
    SpendingBook(path).record(2, "north", figure(1.5), "a2")
    assert path.read_bytes() == whole


@pytest.mark.parametrize("tail", [b"\0" * 300, b"\0" * 300 + b"\n", b'{"round": 3, "si\0\0\0\0"}}\n'])
def test_a_last_line_of_half_written_blocks_is_cut(book, path, tail):
    whole = path.read_bytes()
    with path.open("ab") as file:
        file.write(tail)
    assert SpendingBook(path).latest() == {"north": figure(1.5), "south": figure(0.5)}
    assert path.read_bytes() == whole


def test_a_whole_book_is_not_changed(book, path):
    before = path.read_bytes()
    SpendingBook(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("bad", [b"no json\n", b'{"round": 0}\n', b"\n"])
def test_damage_before_the_last_line_is_refused(book, path, bad):
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + bad + lines[2])
    with pytest.raises(StateError, match="line 2"):
        SpendingBook(path)


def test_figures_of_two_kinds_are_not_compared(book):
    book.record(2, "south", figure(0.7, delta=1e-3), "b2")
    with pytest.raises(StateError, match=r"counted in 2 ways.*delta 0\.001"):
        book.network()


def test_the_worst_patient_may_be_elsewhere_than_the_worst_patch(path):
    book = SpendingBook(path)
    patch = PrivacyUnit.PATCH
    book.record(1, "north", figure(3, unit=patch, patient_epsilon=50, patient_note="10 patches"), "a")
    book.record(1, "south", figure(2, unit=patch, patient_epsilon=900, patient_note="100 patches"), "b")
    assert book.network() == figure(3, unit=patch, patient_epsilon=900, patient_note="100 patches")
    book.record(1, "west", figure(1, unit=patch, patient_note="no figure"), "c")
    assert book.network() == figure(3, unit=patch, patient_note="no figure")


def test_what_cannot_be_written_is_told(tmp_path, book, path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StateError, match="cannot be written"):
        SpendingBook(tmp_path / "file" / "spending.jsonl")
    path.unlink()
    path.mkdir()
    with pytest.raises(StateError, match="free space and resume"):
        book.record(3, "north", figure(2), "a3")
