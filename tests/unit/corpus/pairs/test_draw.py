"""Versions and deletions of the documents of a pair set: as in a corpus, in whatever order they are read."""

from collections import Counter
from itertools import permutations

import pytest
from clinical_modernbert.corpus.pairs import draw as module
from clinical_modernbert.corpus.pairs.draw import Draw
from clinical_modernbert.sources.document import Deleted, Document, Dropped
from clinical_modernbert.sources.terms import Term, TermPair


def document(version: int, order: int = 0) -> Document:
    return Document("a", "s", "patient:1", "text", version, order, record="a")


def pair(text: str) -> TermPair:
    return TermPair("sections", Term(text, ("patient:1",), prose="whole"), Term("x", ("patient:1",), prose="whole"))


def drawn(*records: tuple[Document | Dropped | Deleted, str]) -> tuple[list[str], dict[str, int]]:
    """Return the texts that stay of one record, and what was dropped; a document with the text ``""`` has no pairs."""
    draw = Draw(10)
    for record, text in records:
        if isinstance(record, Document):
            draw.add(7, record, [pair(text)] if text else [])
        elif isinstance(record, Dropped):
            draw.leave_out(7, record)
        else:
            draw.delete(7, record)
    found = [*draw.records()]
    reasons = Counter(item.reason for item in found if isinstance(item, Dropped))
    return [item.anchor.text for item in found if isinstance(item, TermPair)], dict(reasons)


@pytest.mark.parametrize("newer", [(Dropped("withdrawn", "a", 2), ""), (document(2), "")])
def test_a_version_without_text_replaces_the_earlier_one_whichever_is_read_first(
    newer: tuple[Document | Dropped, str],
) -> None:
    for order in permutations([(document(1), "old"), newer]):
        assert drawn(*order) == ([], {"superseded": 1})
    for versions in permutations([(document(1), "old"), newer, (document(3), "new")]):
        assert drawn(*versions) == (["new"], {"superseded": 1})


def test_of_equal_versions_a_drop_ends_what_was_read_before_it_and_leaves_other_abstracts() -> None:
    withdrawn, note = (Dropped("withdrawn", "a", 1), ""), (document(1), "note")
    assert drawn(note, withdrawn) == ([], {"superseded": 1})
    assert drawn(withdrawn, note) == (["note"], {})
    assert drawn((document(1), ""), note, (document(1), "also")) == (["note", "also"], {})


def test_a_deletion_removes_what_its_file_and_earlier_ones_brought() -> None:
    for order in permutations([(document(1), "old"), (Deleted("a"), "")]):
        assert drawn(*order) == ([], {"deleted": 1})
    assert drawn((Deleted("a", order=1), ""), (document(1, order=2), "again")) == (["again"], {})
    second = Deleted("a", order=3, version=2)
    assert drawn((document(1, 1), "one"), (second, "")) == (["one"], {})
    assert drawn((second, ""), (document(2, 3), "two")) == ([], {"deleted": 1})


def test_what_is_forgotten_is_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_ENDED", 10)
    draw = Draw(100)
    draw.add(3, document(1), [pair("three")])
    draw.add(90, document(1), [pair("ninety")])
    for key in range(50, 61):
        draw.leave_out(key, Dropped("withdrawn", "a", 2))
    assert [draw.takes(key) for key in (3, 54, 55, 90)] == [True, True, False, False]
    draw.add(54, document(1), [pair("old")])  # is known still to be replaced
    found = [*draw.records()]
    assert [item.anchor.text for item in found if isinstance(item, TermPair)] == ["three"]
    assert {item.reason for item in found if isinstance(item, Dropped)} == {"not_drawn", "superseded"}
