"""Figure 2 for any encoder: ICD-9 descriptions -> vectors -> figures in the original space and a map, side by side.

The map shows; the figures judge. Each stands beside a permutation of the chapters, the same architecture untrained and TF-IDF,
with a bootstrap interval over categories (codes of one category are near-duplicates of each other).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from transformers import AutoConfig, AutoModel

from clinical_modernbert.corpus import is_held_out
from clinical_modernbert.encoder import PACKED_SDPA, default_device, embed_ids
from clinical_modernbert.evaluation.codes.neighbours import group_figures, text_vectors
from clinical_modernbert.evaluation.codes.projection import project
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_base, mixed_precision
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.recipe.corpus import HeldOutSection
from clinical_modernbert.recipe.evaluate import CodesSection, EvaluateScaling
from clinical_modernbert.sources import CodeEntry, code_group, code_table
from clinical_modernbert.tokenizer import load_tokenizer


def code_report(
    section: CodesSection, encoders: Sequence[LocalEncoder], *, folder: Path, scaling: EvaluateScaling
) -> dict[str, Any]:
    """Return the figures of every encoder; write ``figure2.png`` and ``figure2.parquet``."""
    codes = sampled_codes(section)
    chapters = sorted({entry.chapter_id for entry in codes})
    groups_N = np.array([chapters.index(entry.chapter_id) for entry in codes])
    categories = [code_group("icd9cm", entry.code) for entry in codes]
    texts = [entry.description for entry in codes]
    k = section.purity_neighbours
    report: dict[str, Any] = {"num_codes": len(codes), "k": k, "encoders": {}}
    report["tfidf"] = group_figures(text_vectors(texts), groups_N, categories, k=k, seed=section.seed)
    maps: dict[str, NDArray[np.float32]] = {}
    for encoder in encoders:
        vectors_ND = _vectors(encoder, load_base(encoder, attention=scaling.attention), texts, scaling)
        figures = group_figures(vectors_ND, groups_N, categories, k=k, seed=section.seed)
        untrained_ND = _vectors(encoder, untrained(encoder, seed=section.seed), texts, scaling)
        figures["untrained"] = group_figures(untrained_ND, groups_N, categories, k=k, seed=section.seed)
        held_out = _held_out(encoder, categories)
        if held_out is not None:
            for name, chosen in (("seen", ~held_out), ("held_out", held_out)):
                figures[name] = group_figures(vectors_ND, groups_N, categories, k=k, seed=section.seed, judged=chosen)
        report["encoders"][encoder.name] = figures
        maps[encoder.name] = project(
            vectors_ND,
            perplexity=section.perplexity,
            num_iterations=section.num_iterations,
            seed=section.seed,
            num_cpus=scaling.num_cpus,
        )
    _write_data(folder / "figure2.parquet", codes, maps)
    from clinical_modernbert.evaluation.report.plots import draw_code_maps

    draw_code_maps(folder / "figure2.png", maps, [entry.chapter for entry in codes])
    return report


def sampled_codes(section: CodesSection) -> list[CodeEntry]:
    """Return the table, or the section's fixed sample of it."""
    codes = code_table("icd9cm")
    if section.max_codes is None or section.max_codes >= len(codes):
        return codes
    chosen = np.random.default_rng(section.seed).choice(len(codes), size=section.max_codes, replace=False)
    return [codes[i] for i in np.sort(chosen)]


def untrained(encoder: LocalEncoder, *, seed: int) -> Any:
    """Return the encoder's architecture with fresh weights: what tokenizer and shape alone give."""
    config = AutoConfig.from_pretrained(str(encoder.folder))
    if encoder.architecture == "modernbert":
        config._attn_implementation = PACKED_SDPA
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModel.from_config(config).to(default_device()).eval()


def _vectors(encoder: LocalEncoder, base: Any, texts: Sequence[str], scaling: EvaluateScaling) -> NDArray[np.float32]:
    ids, _ = encode_texts(load_tokenizer(encoder.folder), texts, max_tokens=encoder.max_tokens)
    with mixed_precision():
        return embed_ids(base, ids, pooling=encoder.pooling, max_batch_tokens=scaling.max_batch_tokens)


def _held_out(encoder: LocalEncoder, categories: Sequence[str]) -> NDArray[np.bool_] | None:
    """Return which codes' concepts the encoder's own corpus held out; None where it has none in the store."""
    from clinical_modernbert.artifacts import find_artifact
    from clinical_modernbert.recipe import CorpusRecipe

    if encoder.artifact is None:
        return None
    entry = next((entry for entry in encoder.artifact.manifest.inputs if entry.name == "corpus"), None)
    corpus = entry and find_artifact(encoder.artifact.store, "corpus", entry.id.removeprefix("corpus/"))
    if not corpus:
        return None
    held_out: HeldOutSection = CorpusRecipe.model_validate(corpus.manifest.recipe).held_out
    found = np.array([is_held_out(category, held_out) for category in categories])
    return found if found.any() and not found.all() else None


def _write_data(path: Path, codes: Sequence[CodeEntry], maps: dict[str, NDArray[np.float32]]) -> None:
    columns: dict[str, Any] = {
        "code": [entry.code for entry in codes],
        "description": [entry.description for entry in codes],
        "chapter_id": [entry.chapter_id for entry in codes],
        "chapter": [entry.chapter for entry in codes],
    }
    for name, xy_N2 in maps.items():
        columns |= {f"{name} x": pa.array(xy_N2[:, 0]), f"{name} y": pa.array(xy_N2[:, 1])}
    pq.write_table(pa.table(columns), path, compression="zstd")
