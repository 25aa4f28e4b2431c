"""The report of an evaluation: what ``report.json`` and the manifest's summary hold, as types.

``read_report`` and ``report_json`` are the edge to JSON; everything between them uses attributes. Two rules keep the JSON stable.
Fields are written in the order of their classes. A field with a default is left out when it has that default; a field without one
is always written, ``None`` as null.

The JSON is flat: the fields of ``Comparison`` and ``Table4`` are keys of the report itself, next to ``codes`` and ``efficiency``.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.report.schema.errors import (
    DocumentBucket,
    EntityExampleError,
    ErrorAnalysis,
    LabelPair,
    LengthBucket,
    QueryBucket,
    Recall,
    RetrievalFigures,
    TextExampleError,
    TypeErrors,
    UnknownWordsBucket,
)
from clinical_modernbert.evaluation.report.schema.figures import (
    CodeFigures,
    CodesReport,
    EfficiencyReport,
    LookUpFigures,
    TimedPoint,
)
from clinical_modernbert.evaluation.report.schema.masks import Accuracies, MaskFigures, Shares, Table4
from clinical_modernbert.evaluation.report.schema.section import (
    Estimate,
    JsonObject,
    Range,
    Section,
    mode_name,
    section_json,
)
from clinical_modernbert.evaluation.report.schema.tasks import (
    BaselineResult,
    Calibration,
    CalibrationIntervals,
    Comparison,
    CurvePoint,
    EncoderFacts,
    FailedRun,
    Metric,
    PairedTest,
    PaperQueries,
    Result,
    SetStatistics,
    Skipped,
    TaskReport,
    Verdict,
)

__all__ = [
    "Accuracies",
    "BaselineResult",
    "Calibration",
    "CalibrationIntervals",
    "CodeFigures",
    "CodesReport",
    "Comparison",
    "CurvePoint",
    "DocumentBucket",
    "EfficiencyReport",
    "EncoderFacts",
    "EntityExampleError",
    "ErrorAnalysis",
    "Estimate",
    "FailedRun",
    "LabelPair",
    "LengthBucket",
    "LookUpFigures",
    "MaskFigures",
    "Metric",
    "PairedTest",
    "PaperQueries",
    "QueryBucket",
    "Range",
    "Recall",
    "Report",
    "Result",
    "RetrievalFigures",
    "Section",
    "SetStatistics",
    "Shares",
    "Skipped",
    "Table4",
    "TaskReport",
    "TextExampleError",
    "TimedPoint",
    "TypeErrors",
    "UnknownWordsBucket",
    "Verdict",
    "mode_name",
    "read_report",
    "report_json",
    "section_json",
]


@dataclass(frozen=True, slots=True)
class Report:
    """What an evaluation measured; a part is None where the recipe does not request it."""

    comparison: Comparison | None = None
    table_4: Table4 | None = None
    codes: CodesReport | None = None
    efficiency: EfficiencyReport | None = None


def read_report(values: Mapping[str, Any], *, called: str) -> Report:
    """Return the report of an artifact's summary; ``ArtifactError`` names ``called`` and the first field that does not fit."""
    try:
        return Report(
            comparison=Comparison.model_validate(values) if "tasks" in values else None,
            table_4=Table4.model_validate(values) if "masks" in values else None,
            codes=CodesReport.model_validate(values["codes"]) if "codes" in values else None,
            efficiency=EfficiencyReport.model_validate(values["efficiency"]) if "efficiency" in values else None,
        )
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise ArtifactError(f"{called} is not a report of an evaluation: {field}: {first['msg']}") from None


def report_json(report: Report) -> JsonObject:
    """Return the report as the store keeps it."""
    values: JsonObject = {}
    for section in (report.comparison, report.table_4):
        values |= section_json(section) if section else {}
    for name, figure in (("codes", report.codes), ("efficiency", report.efficiency)):
        values |= {name: section_json(figure)} if figure else {}
    return values
