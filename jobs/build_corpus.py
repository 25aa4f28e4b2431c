"""Build a corpus: raw files -> packed token shards. See docs/corpus.md.

python jobs/build_corpus.py corpus/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.corpus.checks import checked_inputs
from clinical_modernbert.job import main
from clinical_modernbert.recipe import CorpusRecipe


def run(plan: Plan[CorpusRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.corpus.build import build_corpus

    return build_corpus(plan)


if __name__ == "__main__":
    main(CorpusRecipe, run, raw_inputs=checked_inputs)
