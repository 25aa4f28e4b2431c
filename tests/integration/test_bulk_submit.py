"""The bulk job the way researchers run it: ``ray job submit`` to a cluster that requires a token."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import open_store, resolve

from tests.helpers.served_models import publish_model
from tests.helpers.token_cluster import TokenCluster, cluster

pytestmark = [pytest.mark.ray, pytest.mark.slow]

__all__ = ["cluster"]  # a fixture, which pytest finds by its name


def test_a_submitted_bulk_job_leaves_its_vectors(cluster: TokenCluster, tmp_path: Path) -> None:
    publish_model(tmp_path / "store", tmp_path / "export")
    (tmp_path / "notes.csv").write_text("note_id,note_type,text\n1,ed,chest pain\n2,icu,no acute distress\n")
    overrides = [f"input_uri=file://{tmp_path}/notes.csv", "model=tiny", "part_rows=1"]
    done = cluster.submit(
        "python", "jobs/embed.py", "embed/notes", *[part for o in overrides for part in ("--set", o)],
        "--root", f"file://{tmp_path}/store",
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    artifact = resolve(open_store(str(tmp_path / "store")), "embeddings", "notes")
    assert (artifact.summary["embedded"], artifact.summary["rows_of_parts"]) == (2, [1, 1])
