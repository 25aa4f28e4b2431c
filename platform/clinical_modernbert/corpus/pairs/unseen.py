"""Which groups of concepts a model was never trained on as pairs: by its own run, and by the models that it was made from.

A model can leave out the held-out concepts and still know them, from the model that it started from or from its teacher.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow.parquet as pq

from clinical_modernbert.artifacts import Artifact, InputEntry, Store, find_artifact, models_before
from clinical_modernbert.corpus.pairs.build import LINKS_NAME
from clinical_modernbert.corpus.pairs.split import held_out_groups
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.sources import code_group, code_table
from clinical_modernbert.sources.terms import Follows


@dataclass(frozen=True, slots=True)
class PairRun:
    """A contrastive run: what it trained on."""

    model: str
    """Id of its model."""
    split: str
    pairs: Artifact | None
    """None where the store no longer has the pair set."""


@dataclass(frozen=True, slots=True)
class PairHistory:
    """The contrastive runs of a model and of those before it."""

    runs: tuple[PairRun, ...]
    lost: tuple[str, ...]
    """Models before it that were deleted or replaced."""
    outside: tuple[str, ...]
    """Models before it of the hub, a package or a folder. They count as not trained on pairs: the store knows nothing of them."""

    def unseen(self, groups: Iterable[str]) -> set[str]:
        """Return those of ``groups`` that every run held out; none where a model or pair set is lost."""
        found = set() if self.lost else set(groups)
        for run in self.runs:
            found = _held_out(run, found)
        return found

    def trained_on(self, groups: Iterable[str]) -> tuple[str, ...]:
        """Return the models whose own run trained on one of ``groups``, or may have: its pair set is lost."""
        asked = set(groups)
        return tuple(run.model for run in self.runs if _held_out(run, asked) != asked)


def history_of(model: Artifact) -> PairHistory:
    """Return the history of a finished model, its own run first."""
    return history_before(model.manifest.inputs, model.store, own=[model])


def drawn_categories(pairs: Artifact) -> set[str]:
    """Return the ICD-9-CM categories that a pair set holds out: by them two draws are told apart, whatever their sources."""
    categories = {code_group("icd9cm", entry.code) for entry in code_table("icd9cm")}
    return _held_out(PairRun(model="", split="train", pairs=pairs), categories)


def history_before(inputs: Sequence[InputEntry], store: Store, *, own: Sequence[Artifact] = ()) -> PairHistory:
    """Return the history of the models among ``inputs``, after the runs of the models ``own``."""
    before = models_before(inputs, store)
    runs = tuple(run for model in (*own, *before.models) if (run := _run_of(model)))
    return PairHistory(runs=runs, lost=before.lost, outside=before.outside)


def _run_of(model: Artifact) -> PairRun | None:
    entry = next((entry for entry in model.manifest.inputs if entry.name == "pairs"), None)
    if entry is None:
        return None
    pairs = find_artifact(model.store, "pairs", entry.id.removeprefix("pairs/"))
    return PairRun(model=model.manifest.id, split=model.manifest.recipe["training"]["split"], pairs=pairs)


def _held_out(run: PairRun, groups: set[str]) -> set[str]:
    if run.split == "all" or run.pairs is None:
        return set()
    links = pq.read_table(run.pairs.file(LINKS_NAME)).to_pylist()
    follows = [Follows(link["follower"], link["leader"]) for link in links]
    section = HeldOutSection.model_validate(run.pairs.manifest.recipe["held_out"])
    return held_out_groups(groups, follows, section) & groups
