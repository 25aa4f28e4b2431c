"""Label spans in a table of notes: CSV, Parquet or JSON -> OMOP's NOTE_NLP in Parquet. See docs/serving.md.

python jobs/extract.py extract/notes --set input_uri=s3://bucket/notes --set model=NAME [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.bulk.table import fingerprint_inputs
from clinical_modernbert.job import main
from clinical_modernbert.recipe import ExtractRecipe


def run(plan: Plan[ExtractRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.bulk.extract import extract_spans

    return extract_spans(plan)


if __name__ == "__main__":
    main(ExtractRecipe, run, raw_inputs=fingerprint_inputs)
