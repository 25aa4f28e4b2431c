"""A record that hangs a reader or a rule ends the build with its place; a slow one, and a long sort before the first, do not."""

import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import documents
from clinical_modernbert.corpus.record_timeout import record_timeout
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.document import Unit
from clinical_modernbert.sources.files import Progress

HANGS = "the patient of this note hangs"
UNIT = Unit(source="notes", name="notes.csv", location="", digest="")


def parse(folder: Path) -> None:
    texts = [f"Note {number}: the patient took warfarin daily." for number in range(5)]
    texts[3] = HANGS
    (folder / "notes.csv").write_text("text\n" + "".join(f'"{text}"\n' for text in texts))
    source = {"type": "table", "name": "notes", "path": str(folder / "notes.csv"), "text_column": "text"}
    recipe = build_recipe(CorpusRecipe, {"kind": "corpus", "name": "t", "sources": [source]}, origin="test")
    area = WorkArea(f"file://{folder / 'store'}", "work/corpus/test")
    documents.parse_unit(area, recipe, list_units(recipe.sources[0])[0], number=0)


def hangs(call: Callable[[str], str], text: str) -> str:
    while text == HANGS:
        pass
    return call(text)


def test_a_record_that_hangs_a_rule_is_named_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(documents, "record_timeout", partial(record_timeout, seconds=0.2))
    monkeypatch.setattr(documents, "normalise", partial(hangs, documents.normalise))
    with pytest.raises(
        SourceError,
        match=r"^notes/notes\.csv: the record after record 3 was not read within 0\.2 s \(test_record_timeout\.py, line \d+\)",
    ) as raised:
        parse(tmp_path)
    assert "patient" not in str(raised.value)
    assert signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0)


def test_a_reader_that_hangs_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def read(*_: object, progress: Progress) -> Iterator[object]:
        while not progress.size_bytes:
            pass
        yield

    monkeypatch.setattr(documents, "record_timeout", partial(record_timeout, seconds=0.2))
    monkeypatch.setattr(documents, "read_unit", read)
    with pytest.raises(SourceError, match="after record 0 was not read"):
        parse(tmp_path)


@pytest.mark.parametrize("what", ["records", "bytes"])
def test_one_that_goes_on_is_not_ended(what: str) -> None:
    progress = Progress()
    with record_timeout(UNIT, progress, reads_ahead=False, seconds=0.2) as count:
        for _ in range(8):
            time.sleep(0.1)
            count.number += what == "records"
            progress.given_bytes += what == "bytes"


def test_a_source_that_sorts_its_rows_first_has_time_before_its_first_record_alone() -> None:
    with record_timeout(UNIT, Progress(), reads_ahead=True, seconds=0.1) as count:
        time.sleep(0.5)
        count.number += 1
        with pytest.raises(SourceError, match="after record 1 was not read"):
            time.sleep(0.5)
