"""Embed a table of texts: CSV, Parquet or JSON -> vectors in Parquet. See docs/serving.md.

python jobs/embed.py embed/notes --set input_uri=s3://bucket/notes [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.bulk.table import fingerprint_inputs
from clinical_modernbert.job import main
from clinical_modernbert.recipe import EmbedRecipe


def run(plan: Plan[EmbedRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.bulk.embed import embed_table

    return embed_table(plan)


if __name__ == "__main__":
    main(EmbedRecipe, run, raw_inputs=fingerprint_inputs)
