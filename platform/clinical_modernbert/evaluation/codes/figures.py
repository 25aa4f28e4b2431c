"""Figure 2 for any encoder: vectors of ICD-9 descriptions, figures in the original space, and maps side by side.

The maps are an illustration; the figures measure. Each encoder is next to a permutation of the chapters, the same architecture
untrained, and TF-IDF, with bootstrap intervals over categories.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from clinical_modernbert.encoder import Encoder
from clinical_modernbert.evaluation.codes.code_set import CodeSet, code_set, held_out_by_pairs, held_out_codes
from clinical_modernbert.evaluation.codes.lookup import (
    Embed,
    LookUp,
    counting_figures,
    crosswalk,
    encoder_figures,
    lay_words_among,
)
from clinical_modernbert.evaluation.codes.neighbours import group_figures
from clinical_modernbert.evaluation.codes.vectors import encoder_vectors, project, text_vectors, untrained
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_base, mixed_precision
from clinical_modernbert.evaluation.report.plots import draw_code_maps
from clinical_modernbert.evaluation.report.schema import CodeFigures, CodesReport, LookUpFigures
from clinical_modernbert.recipe.evaluate import CodesSection, EvaluateScaling
from clinical_modernbert.tokenizer import load_tokenizer


def code_report(
    section: CodesSection, encoders: Sequence[LocalEncoder], *, folder: Path, scaling: EvaluateScaling
) -> CodesReport:
    """Return the figures of every encoder; write ``figure2.png`` and ``figure2.parquet``."""
    codes = code_set("icd9cm", max_codes=section.max_codes, seed=section.seed)
    figures: dict[str, CodeFigures] = {}
    maps: dict[str, NDArray[np.float32]] = {}
    pairs = crosswalk(
        num_queries=min(section.crosswalk_queries, section.max_codes or section.crosswalk_queries),
        all_candidates=section.max_codes is None,
        seed=section.seed,
    )
    phrases = lay_words_among(codes.entries)
    found, of_phrases = (counting_figures(of, seed=section.seed) for of in (pairs, phrases))
    for local in encoders:
        encoder = Encoder(
            model=load_base(local, attention=scaling.attention),
            tokenizer=load_tokenizer(local.folder),
            head="embedding",
        )
        embed = partial(_vectors, encoder, local, scaling=scaling)
        vectors_ND = embed(codes.descriptions)
        untrained_ND = _vectors(untrained(encoder, seed=section.seed), local, codes.descriptions, scaling=scaling)
        found[local.name] = _look_up(pairs, embed, local, section.seed, embed(pairs.candidates))
        of_phrases[local.name] = _look_up(phrases, embed, local, section.seed, vectors_ND)
        seen, held_out = _by_corpus(vectors_ND, codes, local, section)
        figures[local.name] = _figures(vectors_ND, codes, section).model_copy(
            update={"untrained": _figures(untrained_ND, codes, section), "seen": seen, "held_out": held_out}
        )
        maps[local.name] = project(
            vectors_ND,
            perplexity=section.perplexity,
            num_iterations=section.num_iterations,
            seed=section.seed,
            num_cpus=scaling.num_cpus,
        )
    _write_data(folder / "figure2.parquet", codes, maps)
    draw_code_maps(folder / "figure2.png", maps, [entry.chapter for entry in codes.entries])
    tfidf = _figures(text_vectors(codes.descriptions), codes, section)
    k = section.purity_neighbours
    return CodesReport(num_codes=len(codes), k=k, encoders=figures, tfidf=tfidf, crosswalk=found, lay_words=of_phrases)


def _look_up(
    of: LookUp, embed: Embed, local: LocalEncoder, seed: int, candidates_DW: NDArray[np.float32]
) -> LookUpFigures:
    """Return the figures of all queries, and those of concepts that the encoder's pair set held out."""
    figures = encoder_figures(of, embed, seed=seed, candidates_DW=candidates_DW)
    categories = sorted(set[str]().union(*of.concepts))
    unseen = held_out_by_pairs(categories, local.artifact) if local.artifact else None
    if unseen is None:
        return figures
    own = of.about(unseen)
    held_out = encoder_figures(own, embed, seed=seed, candidates_DW=candidates_DW) if own.queries else None
    return figures.model_copy(update={"was_trained": True, "held_out": held_out})


def _vectors(
    encoder: Encoder, local: LocalEncoder, texts: Sequence[str], *, scaling: EvaluateScaling
) -> NDArray[np.float32]:
    with mixed_precision():
        return encoder_vectors(
            encoder,
            texts,
            pooling=local.pooling,
            max_tokens=local.max_tokens,
            max_batch_tokens=scaling.max_batch_tokens,
        )


def _figures(
    vectors_ND: NDArray[np.float32],
    codes: CodeSet,
    section: CodesSection,
    *,
    judged: NDArray[np.bool_] | None = None,
) -> CodeFigures:
    return group_figures(
        vectors_ND, codes.chapters_N, codes.categories, k=section.purity_neighbours, seed=section.seed, judged=judged
    )


def _by_corpus(
    vectors_ND: NDArray[np.float32], codes: CodeSet, local: LocalEncoder, section: CodesSection
) -> tuple[CodeFigures | None, CodeFigures | None]:
    """Return the figures of codes that the encoder's corpus had and held out; None if there are not both."""
    held_out_N = held_out_codes(codes, local.artifact) if local.artifact else None
    if held_out_N is None or not held_out_N.any() or held_out_N.all():
        return None, None
    seen, held_out = (_figures(vectors_ND, codes, section, judged=chosen_N) for chosen_N in (~held_out_N, held_out_N))
    return seen, held_out


def _write_data(path: Path, codes: CodeSet, maps: dict[str, NDArray[np.float32]]) -> None:
    columns = {
        "code": pa.array([entry.code for entry in codes.entries]),
        "description": pa.array(codes.descriptions),
        "chapter_id": pa.array([entry.chapter_id for entry in codes.entries]),
        "chapter": pa.array([entry.chapter for entry in codes.entries]),
    }
    for name, xy_N2 in maps.items():
        columns |= {f"{name} x": pa.array(xy_N2[:, 0]), f"{name} y": pa.array(xy_N2[:, 1])}
    pq.write_table(pa.table(columns), path, compression="zstd")
