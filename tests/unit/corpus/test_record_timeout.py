"""A record that hangs a reader or a rule ends the build with its place; a slow one, and a long sort before the first, do not."""

import base64
import gzip
import io
import json
import signal
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import documents
from clinical_modernbert.corpus.record_timeout import record_timeout
from clinical_modernbert.corpus.results import Parsed
from clinical_modernbert.errors import SourceError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units
from clinical_modernbert.sources.document import Unit
from clinical_modernbert.sources.files import Progress
from clinical_modernbert.sources.notes import fhir_binaries, fhir_events

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
    monkeypatch.setattr(
        documents, "record_timeout", partial(record_timeout, seconds=1.0)
    )  # the first record loads models
    monkeypatch.setattr(documents, "normalise", partial(hangs, documents.normalise))
    with pytest.raises(
        SourceError,
        match=r"^notes/notes\.csv: the record after record 3 was not read within 1 s \(test_record_timeout\.py, line \d+\)",
    ) as raised:
        parse(tmp_path)
    assert "patient" not in str(raised.value)


def test_a_timer_of_the_process_continues_afterwards() -> None:
    earlier, handler = signal.setitimer(signal.ITIMER_REAL, 100.0), signal.getsignal(signal.SIGALRM)
    try:
        with record_timeout(UNIT, Progress(), reads_ahead=False):
            pass
        assert signal.getitimer(signal.ITIMER_REAL)[0] > 90 and signal.getsignal(signal.SIGALRM) is handler
    finally:
        signal.setitimer(signal.ITIMER_REAL, *earlier)


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


def test_a_source_that_sorts_its_rows_first_has_time_before_its_first_document_alone() -> None:
    with record_timeout(UNIT, Progress(), reads_ahead=True, seconds=0.1) as count:
        time.sleep(0.5)
        count.number += 1
        time.sleep(0.3)
        count.has_document = True
        with pytest.raises(SourceError, match="after record 1 was not read"):
            time.sleep(0.5)


def slow(read: Callable[..., Iterator[Any]]) -> Callable[..., Iterator[Any]]:
    def read_slowly(*arguments: Any, **settings: Any) -> Iterator[Any]:
        for item in read(*arguments, **settings):
            time.sleep(0.1)
            yield item

    return read_slowly


class SlowLines(io.BytesIO):
    def readline(self, size: int | None = -1, /) -> bytes:
        time.sleep(0.1)
        return super().readline(size)


def test_events_that_are_dropped_before_the_sort_begin_no_time_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuted = {"verificationStatus": {"coding": [{"code": "refuted"}]}}
    resources = [
        {"resourceType": "Condition", "id": str(n), "subject": {"reference": "Patient/1"}, "code": {"text": "Asthma"}}
        for n in range(12)
    ]
    write_lines(tmp_path / "Condition.ndjson", {**resources[0], **refuted}, *resources[1:])
    monkeypatch.setattr(fhir_events, "read_resources", slow(fhir_events.read_resources))
    assert parse_within(0.4, {"type": "fhir_events", "path": str(tmp_path)}, monkeypatch).count("records") == 2


@pytest.mark.parametrize("form", ["lines", "gzip"])
def test_an_index_of_binaries_may_take_long_after_the_first_note(
    form: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = base64.b64encode(b"The patient took warfarin daily. " * 20_000).decode()  # a Binary is several chunks
    notes = [
        {
            "resourceType": "DocumentReference",
            "id": str(n),
            "subject": {"reference": "Patient/1"},
            "content": [{"attachment": {"contentType": "text/plain", **place}}],
        }
        for n, place in enumerate(({"data": data}, {"url": "Binary/7"}))
    ]
    write_lines(tmp_path / "DocumentReference.ndjson", *notes)
    binaries = tmp_path / "Binary.ndjson"
    write_lines(binaries, *({"resourceType": "Binary", "id": str(n), "data": data} for n in range(12)))
    if form == "gzip":
        binaries.write_bytes(gzip.compress(binaries.read_bytes()))
        monkeypatch.setattr(fhir_binaries, "read_values", slow(fhir_binaries.read_values))
    else:
        monkeypatch.setattr(fhir_binaries, "open_location", lambda path: SlowLines(Path(path).read_bytes()))
    assert parse_within(0.4, {"type": "fhir", "path": str(tmp_path)}, monkeypatch).count("records") == 2


def write_lines(path: Path, *resources: dict[str, object]) -> None:
    path.write_text("".join(f"{json.dumps(resource)}\n" for resource in resources))


def parse_within(seconds: float, source: dict[str, object], monkeypatch: pytest.MonkeyPatch) -> Parsed:
    monkeypatch.setattr(documents, "record_timeout", partial(record_timeout, seconds=seconds))
    values = {"kind": "corpus", "name": "t", "sources": [{"name": "s", **source}], "filters": {"min_characters": 1}}
    recipe = build_recipe(CorpusRecipe, values, origin="test")
    area = WorkArea(f"file://{source['path']}/store", "work/corpus/test")
    (unit,) = list_units(recipe.sources[0])
    return documents.parse_unit(area, recipe, unit, number=0)
