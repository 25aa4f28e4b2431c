"""A set of codes: a table or a fixed sample of it, with what figures need of each code, and which codes a corpus held out."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, find_artifact
from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.corpus.pairs.unseen import history_of
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.sources import CodeEntry, code_group, code_table
from clinical_modernbert.sources.codes import Table


@dataclass(frozen=True, slots=True)
class CodeSet:
    """Codes of one table, in its order."""

    table: Table
    entries: Sequence[CodeEntry]
    whole: Sequence[CodeEntry]
    """The table from which the codes were drawn; the same codes where nothing was."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def descriptions(self) -> list[str]:
        """The text of each code."""
        return [entry.description for entry in self.entries]

    @property
    def chapters_N(self) -> NDArray[np.int64]:  # noqa: N802  # the suffix is the axis
        """Number of each code's chapter."""
        return np.unique([entry.chapter_id for entry in self.entries], return_inverse=True)[1].astype(np.int64)

    @property
    def categories(self) -> list[str]:
        """Category of each code: codes of one category are near-duplicates of each other."""
        return [code_group(self.table, entry.code) for entry in self.entries]


def code_set(table: Table, *, max_codes: int | None, seed: int) -> CodeSet:
    """Return the table, or ``max_codes`` codes of it drawn by ``seed``."""
    codes = code_table(table)
    if max_codes is None or max_codes >= len(codes):
        return CodeSet(table, codes, codes)
    chosen = np.random.default_rng(seed).choice(len(codes), size=max_codes, replace=False)
    return CodeSet(table, [codes[i] for i in np.sort(chosen)], codes)


def held_out_codes(codes: CodeSet, model: Artifact) -> NDArray[np.bool_] | None:
    """Return which codes' concepts neither the corpus of ``model`` nor its pairs had; None if the store has neither."""
    history, corpus = history_of(model), _input(model, "corpus")
    if any(run.pairs is None for run in history.runs):
        return None
    found = history.unseen(codes.categories) if history.runs else None
    if corpus:
        section = CorpusRecipe.model_validate(corpus.manifest.recipe).held_out
        by_corpus = {category for category in codes.categories if is_held_out(category, section)}
        found = by_corpus if found is None else found & by_corpus
    return None if found is None else np.array([category in found for category in codes.categories])


def held_out_by_pairs(categories: Sequence[str], model: Artifact) -> set[str] | None:
    """Return the categories that ``model`` and those before it never had as pairs; None if none trained on pairs."""
    history = history_of(model)
    return history.unseen(categories) if history.runs else None


def _input(model: Artifact, kind: str) -> Artifact | None:
    entry = next((entry for entry in model.manifest.inputs if entry.name == kind), None)
    return find_artifact(model.store, kind, entry.id.removeprefix(f"{kind}/")) if entry else None
