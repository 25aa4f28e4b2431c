"""Pair sets whose hard negatives a model finds: the vectors for ``corpus.pairs``, which loads no model itself.

Other pair sets need neither torch nor a model, so both are loaded late.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from clinical_modernbert.artifacts import Artifact, Plan, model_name, open_model
from clinical_modernbert.corpus.pairs.build import build_pairs
from clinical_modernbert.corpus.pairs.negatives import Embed
from clinical_modernbert.recipe.pairs import NegativesSection, PairsRecipe


def build_pair_set(plan: Plan[PairsRecipe]) -> Artifact:
    """Build a pair set; loads the model that finds its negatives if it has one."""
    section = plan.recipe.negatives
    return build_pairs(plan, embed=_embed(plan, section) if section and section.model else None)


def _embed(plan: Plan[PairsRecipe], section: NegativesSection) -> Embed:
    import torch

    from clinical_modernbert.encoder import Encoder, load_with_new_head
    from clinical_modernbert.tokenizer import load_tokenizer

    entry = next(entry for entry in plan.inputs if entry.name == "negatives.model")
    folder = open_model(entry, plan.store)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_with_new_head(folder, "embedding", label=model_name(entry)).to(device).eval()
    encoder = Encoder(model=model, tokenizer=load_tokenizer(folder), head="embedding")
    limit = min(section.max_tokens, encoder.max_tokens)

    def embed(texts: Sequence[str]) -> NDArray[np.float32]:
        ids = encoder.tokenizer(list(texts), truncation=True, max_length=limit, padding=False)["input_ids"]
        return encoder.embed(ids, pooling=section.pooling, normalize=True)

    return embed
