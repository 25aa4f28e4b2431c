"""PMC-Patients: patient summaries with relevant articles and similar patients, and its retrieval sets in BEIR's layout."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clinical_modernbert.errors import SourceError
from clinical_modernbert.sources.evaluation_sets.lines import numbered_lines, read_text, refuse


@dataclass(frozen=True, slots=True)
class Patient:
    """One summary from a case report."""

    uid: str
    """``<PMID>-<number>``."""
    title: str
    """Title of the article."""
    text: str
    relevant_articles: tuple[tuple[str, int], ...]
    """(PMID, grade 1 or 2)."""
    similar_patients: tuple[tuple[str, int], ...]
    """(uid, grade 1 or 2)."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A query or a document of a retrieval set."""

    id: str
    title: str
    """Empty for queries and for patients."""
    text: str


def read_patients(path: Path) -> Iterator[Patient]:
    """Yield the patients of ``PMC-Patients.json``, a JSON list."""
    try:
        records = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        refuse(path, error.lineno, f"no JSON ({error.msg})")
    if not isinstance(records, list):
        refuse(path, 1, f"expected a JSON list of patients, found {type(records).__name__}")
    for number, record in enumerate(records, start=1):
        try:
            yield Patient(
                str(record["patient_uid"]),
                str(record.get("title", "")),
                str(record["patient"]),
                _grades(record.get("relevant_articles", {})),
                _grades(record.get("similar_patients", {})),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise SourceError(
                f"{path.name}, record {number}: expected patient_uid, patient and graded lists ({type(error).__name__})"
            ) from None


def read_entries(path: Path) -> Iterator[Entry]:
    """Yield the lines ``{"_id", "title", "text"}`` of a ``queries.jsonl`` or ``corpus.jsonl``; MTEB calls the first ``id``."""
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            name, text = record["_id"] if "_id" in record else record["id"], record["text"]
            title = record.get("title") or ""
        except (json.JSONDecodeError, KeyError, TypeError, AttributeError):
            name = text = None
        if name is None or not isinstance(text, str):
            refuse(path, number, 'expected a JSON object with "_id" and a "text" that is a string')
        yield Entry(str(name), str(title), text)


def read_qrels(path: Path) -> Iterator[tuple[int, str, str, int]]:
    """Yield (line, query, document, grade): BEIR's three columns with or without a header, TREC's four, or MTEB's JSON lines.

    A grade is a whole number, also written ``1.0``; TREC-COVID has -1 for unwanted documents.
    """
    for number, line in numbered_lines(path):
        if not line.strip():
            continue
        if line.startswith("{"):
            columns = _json_columns(line)
        else:
            columns = [column.strip() for column in (line.split("\t") if "\t" in line else line.split())]
        grade = _whole_number(columns[-1]) if columns else None
        if number == 1 and len(columns) in (3, 4) and grade is None:
            continue
        if len(columns) not in (3, 4) or grade is None:
            refuse(
                path,
                number,
                "expected query<TAB>document<TAB>grade, TREC's query, iteration, document, grade, or JSON with "
                '"query-id", "corpus-id" and "score"',
            )
        yield number, columns[0], columns[-2], grade


def _json_columns(line: str) -> list[str]:
    """Return query, document and grade; nothing of a line that does not have them."""
    try:
        record = json.loads(line)
        return [str(record[name]) for name in ("query-id", "corpus-id", "score")]
    except (json.JSONDecodeError, KeyError, TypeError):
        return []


def _whole_number(text: str) -> int | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return int(value) if value.is_integer() else None


def _grades(value: Any) -> tuple[tuple[str, int], ...]:
    return tuple((str(name), int(grade)) for name, grade in dict(value).items())
