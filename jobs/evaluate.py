"""Run a evaluate recipe: a model and a corpus -> masked-token accuracy.

python jobs/evaluate.py evaluate/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import EvaluateRecipe


def run(plan: Plan) -> Artifact:
    """Import the heavy part only when there is work to do."""
    from clinical_modernbert.evaluation.masked_tokens import evaluate

    return evaluate(plan)


if __name__ == "__main__":
    main(EvaluateRecipe, run)
