"""A Parquet table of an artifact with the columns that a page needs."""

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.parquet as pq
from clinical_modernbert.artifacts import Artifact
from clinical_modernbert.errors import ArtifactError


def read_rows(artifact: Artifact, file: str, columns: Sequence[str]) -> pa.Table:
    """Return the rows of a file, in one chunk; raises ``ArtifactError`` for one without rows or a column."""
    name = f"{artifact.uri}/{file}"
    try:
        rows = pq.read_table(artifact.file(file)).combine_chunks()
    except (pa.ArrowException, OSError) as error:
        raise ArtifactError(f"{name} is not a Parquet table: {str(error).splitlines()[0]}") from None
    missing = [column for column in columns if column not in rows.column_names]
    if missing:
        raise ArtifactError(
            f"{name} has no column {missing[0]}: it needs {', '.join(columns)}, and has {', '.join(rows.column_names)}"
        )
    if not rows.num_rows:
        raise ArtifactError(f"{name} has no rows")
    return rows
