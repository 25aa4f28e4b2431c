"""Map an embedded set: vectors of jobs/embed.py -> a 2-D map for the explorer. See docs/explorer.md.

python jobs/project.py project/notes [--set path=value] [--root URI] [--dry-run]
"""

from clinical_modernbert.artifacts import Artifact, Plan
from clinical_modernbert.job import main
from clinical_modernbert.recipe import ProjectRecipe


def run(plan: Plan[ProjectRecipe]) -> Artifact:
    """Import the heavy modules only if there is work to do."""
    from clinical_modernbert.evaluation.codes.embedding_map import map_embeddings

    return map_embeddings(plan)


if __name__ == "__main__":
    main(ProjectRecipe, run)
