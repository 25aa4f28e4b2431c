"""Evaluate encoders: tasks and a corpus -> the paper's tables and figures in one report. See docs/evaluation.md.

python jobs/evaluate.py evaluate/demo [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.evaluation.fingerprint_inputs import fingerprint_inputs
from clinical_modernbert.job import main
from clinical_modernbert.recipe import EvaluateRecipe


def run(plan: Plan[EvaluateRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.evaluation.run import evaluate

    return evaluate(plan)


if __name__ == "__main__":
    main(EvaluateRecipe, run, raw_inputs=fingerprint_inputs)
