"""Lists as files, always whole: a workbook whose codes stay text, CSV, a bare list, and an OMOP concept set.

CSV begins with its header, as other tools expect; its provenance is in the workbook, the concept set and a file of its own.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pyarrow as pa
import streamlit as st
from clinical_modernbert.artifacts import Artifact

from panels.workbook import as_workbook

# A spreadsheet evaluates a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
# Code table -> vocabulary in OMOP.
_VOCABULARY = {"icd9cm": "ICD9CM", "icd10cm": "ICD10CM"}


@dataclass(frozen=True, slots=True)
class Export:
    """A table as its user takes it away."""

    table: pa.Table
    file: str
    """Name of the files, without ending."""
    provenance: Sequence[str]
    codes_of: str | None = None
    """The code table whose codes are in the column ``code``; it adds the bare list and the concept set."""


def provenance(*artifacts: Artifact) -> list[str]:
    """Return the lines of provenance for an export of ``artifacts``."""
    lines = ["Clinical ModernBERT. Research use, not for care."]
    for artifact in artifacts:
        manifest, summary = artifact.manifest, artifact.summary
        model = f"model {summary['model']}, " if "model" in summary else ""
        lines.append(
            f"{manifest.kind} {manifest.id}, {model}fingerprint {manifest.fingerprint}, "
            f"recipe {manifest.recipe['kind']}/{manifest.recipe['name']}, made {manifest.created_at[:10]}"
        )
        lines += sample_note(artifact)
    return [*lines, f"exported {datetime.now(UTC):%Y-%m-%d}"]


def sample_note(artifact: Artifact) -> list[str]:
    """Return a line that says that a map shows a sample; nothing where it shows all."""
    shown = artifact.summary.get("num_codes", artifact.summary.get("num_rows"))
    total = artifact.summary.get("of_codes", artifact.summary.get("of_rows"))
    return [f"{shown:,} of {total:,}, drawn at random"] if shown and total and shown < total else []


def offer_exports(export: Export, *, key: str) -> None:
    """Show a button for each kind of file. Files are made on demand: nothing is held in memory until then."""
    kinds: list[tuple[str, str, str]] = [
        ("Excel", "xlsx", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"),
        ("CSV", "csv", "text/csv"),
    ]
    if export.codes_of:
        kinds += [("Codes only", "txt", "text/plain"), ("OMOP concept set", "json", "application/json")]
    kinds.append(("Provenance", "provenance.txt", "text/plain"))
    with st.container(horizontal=True):
        for label, ending, mime in kinds:
            st.download_button(
                label,
                data=lambda ending=ending: content(export, ending),
                file_name=f"{export.file}.{ending}",
                mime=mime,
                icon=":material/download:",
                on_click="ignore",
                key=f"{key}-{ending}",
            )
    st.caption(
        f"Every file has all {export.table.num_rows:,} rows. In Excel files codes and ids are text; programs that read the CSV "
        "must be told so, or 250.00 becomes 250."
    )


def content(export: Export, ending: str) -> bytes:
    """Return the bytes of the file with this ending."""
    match ending:
        case "xlsx":
            return as_workbook(export.table, export.provenance)
        case "csv":
            return as_csv(export.table)
        case "txt":
            kept = [
                code
                for code, out in zip(export.table["code"].to_pylist(), _excluded(export.table), strict=True)
                if not out
            ]
            return "".join(f"{code}\n" for code in kept).encode()
        case "json":
            assert export.codes_of is not None
            return concept_set(export.table, export.codes_of, export.file, export.provenance)
        case _:
            return "".join(f"{line}\n" for line in export.provenance).encode()


def as_csv(table: pa.Table) -> bytes:
    """Return UTF-8 CSV, the header first. Text that a spreadsheet would evaluate is prefixed with '."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        writer.writerow([_plain(value) for value in row])
    return out.getvalue().encode()


def concept_set(table: pa.Table, codes_of: str, name: str, lines: Sequence[str]) -> bytes:
    """Return the codes in the form of an OMOP concept set expression.

    ``CONCEPT_ID`` is 0, because the platform has no OMOP vocabulary: look the concepts up by vocabulary and code.
    """
    items = [
        {
            "concept": {
                "CONCEPT_ID": 0,
                "CONCEPT_NAME": description,
                "CONCEPT_CODE": code,
                "VOCABULARY_ID": _VOCABULARY[codes_of],
                "DOMAIN_ID": "Condition",
            },
            "isExcluded": is_excluded,
            "includeDescendants": False,
            "includeMapped": False,
        }
        for code, description, is_excluded in zip(
            table["code"].to_pylist(), table["description"].to_pylist(), _excluded(table), strict=True
        )
    ]
    whole = {"name": name, "description": "; ".join(lines), "expression": {"items": items}}
    return json.dumps(whole, indent=1).encode()


def _excluded(table: pa.Table) -> list[bool]:
    return table["excluded"].to_pylist() if "excluded" in table.column_names else [False] * table.num_rows


def _plain(value: object) -> object:
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
