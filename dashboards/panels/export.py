"""Tables as files. Each names its model, fingerprint, recipe and date."""

import csv
import io
from datetime import UTC, datetime

import pyarrow as pa
from clinical_modernbert.artifacts import Artifact

# A spreadsheet evaluates a cell that begins with one of these.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def provenance(*artifacts: Artifact) -> list[str]:
    """Return the lines of provenance for an export of ``artifacts``."""
    lines = ["Clinical ModernBERT. Research use, not for care."]
    for artifact in artifacts:
        manifest = artifact.manifest
        model = f"model {artifact.summary['model']}, " if "model" in artifact.summary else ""
        lines.append(
            f"{manifest.kind} {manifest.id}, {model}fingerprint {manifest.fingerprint}, "
            f"recipe {manifest.recipe['kind']}/{manifest.recipe['name']}, made {manifest.created_at[:10]}"
        )
    return [*lines, f"exported {datetime.now(UTC):%Y-%m-%d}"]


def as_csv(table: pa.Table, lines: list[str]) -> bytes:
    """Return UTF-8 CSV after comment lines of provenance. Text that a spreadsheet would evaluate is prefixed with '."""
    out = io.StringIO()
    out.writelines(f"# {line}\n" for line in lines)
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(table.column_names)
    for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
        writer.writerow([_plain(value) for value in row])
    return out.getvalue().encode()


def _plain(value: object) -> object:
    if isinstance(value, list):
        value = "; ".join(map(str, value))
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value
