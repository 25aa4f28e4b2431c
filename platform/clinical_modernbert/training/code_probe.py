"""A probe of the vectors while a model trains: do neighbouring codes belong together?

The descriptions of a sample of codes become vectors at each evaluation; nothing is trained for it. The figures are shares of the
ten nearest codes that are of the same chapter: among all codes, and among those of other categories, which near-duplicates of one
category do not lift. They show when vectors become useful. They have no interval, and codes of the corpus are among them: the
figures to report are those of an evaluation.

Legend: N codes, D width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.encoder import embed_ids
from clinical_modernbert.encoder.neighbours import nearest, purity
from clinical_modernbert.errors import RecipeError, SourceError
from clinical_modernbert.recipe.training_run import CodeProbeSection
from clinical_modernbert.recipe.vocabulary import Pooling
from clinical_modernbert.sources import code_group, code_table

_NEIGHBOURS = 10
_SEED = 0
_MAX_BATCH_TOKENS = 8192


@dataclass(frozen=True, slots=True)
class CodeProbe:
    """The codes of a probe, ready for the model."""

    ids: list[list[int]]
    """Token ids of each description."""
    chapters_N: NDArray[np.int64]
    categories_N: NDArray[np.int64]
    pooling: Pooling

    def figures(self, model: Any) -> dict[str, float]:
        """Return ``codes_purity`` and ``codes_purity_outside``, the second among codes of other categories."""
        was_training = model.training
        model.eval()
        vectors_ND = embed_ids(model, self.ids, pooling=self.pooling, max_batch_tokens=_MAX_BATCH_TOKENS)
        model.train(was_training)
        among_all, _ = nearest(vectors_ND, k=_NEIGHBOURS)
        outside, _ = nearest(vectors_ND, k=_NEIGHBOURS, apart_N=self.categories_N)
        return {
            "codes_purity": purity(among_all, self.chapters_N),
            "codes_purity_outside": purity(outside, self.chapters_N),
        }


def build_probe(section: CodeProbeSection, tokenizer: Any, *, max_tokens: int) -> CodeProbe:
    """Return the probe of up to ``max_codes`` codes of a table, the same ones in every run; longer texts are cut."""
    try:
        entries = code_table(section.table)
    except SourceError as error:
        raise RecipeError(f"held_out_loss.codes: {error}") from None
    chosen = np.random.default_rng(_SEED).permutation(len(entries))[: section.max_codes]
    codes = [entries[number] for number in np.sort(chosen)]
    ids = tokenizer([code.description for code in codes], truncation=True, max_length=max_tokens, padding=False)[
        "input_ids"
    ]
    categories = [code_group(section.table, code.code) for code in codes]
    return CodeProbe(
        ids=ids,
        chapters_N=np.unique([code.chapter_id for code in codes], return_inverse=True)[1].astype(np.int64),
        categories_N=np.unique(categories, return_inverse=True)[1].astype(np.int64),
        pooling=section.pooling,
    )
