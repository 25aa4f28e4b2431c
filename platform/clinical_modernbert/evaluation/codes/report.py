"""``report.json`` of maps, as the jobs write it and the explorer's pages read it."""

from typing import TypeVar

from pydantic import Field, ValidationError

from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError
from clinical_modernbert.evaluation.report.schema import CodeFigures, Section

_SectionT = TypeVar("_SectionT", bound=Section)


class Purity(Section):
    """Chapter purity@k in the original space, next to what it is compared with."""

    k: int
    encoder: float
    untrained: float
    tfidf: float
    permutation: float


class MapReport(Section):
    """The map of a code table."""

    purity: Purity
    measures: dict[str, CodeFigures] = Field(default_factory=dict)
    """Figures with intervals: of all codes, of those in the corpus (``seen``), and of those it held out."""
    num_codes: int
    of_codes: int
    """Codes of the whole table."""
    synthetic_sources: list[str] | None = None
    """Generated sources of the model's corpus; None in maps that do not state them."""
    table: str
    pooling: str
    model: str


class EmbeddingMapReport(Section):
    """The map of an embedded set."""

    num_rows: int
    of_rows: int
    synthetic_sources: list[str] | None = None
    columns: list[str]
    """Metadata columns of the set."""
    pooling: str
    embeddings: str
    model: str


def read_map_report(artifact: Artifact, report: type[_SectionT]) -> _SectionT:
    """Return the report of a map; ``ArtifactError`` names the map and the first field that does not fit."""
    try:
        return report.model_validate_json(artifact.file("report.json").read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(f"{artifact.uri}/report.json is not the report of a map: {field}: {first['msg']}") from None
