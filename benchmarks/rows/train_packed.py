"""Forward and backward of masked language modelling: packed rows against documents padded to the row length with the full head.

The peer is the paper's way with transformers: each document truncated and padded to 128, sdpa, logits at every position.
Both sides have one model (ModernBERT-base's width and vocabulary; LAYERS layers), real documents, the same number of rows, and
no optimizer step. Only real tokens count. The bound is the matrix products of our side alone.
"""

import os
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from clinical_modernbert.corpus.packing import pack_documents
from clinical_modernbert.demo.data import real_sources
from clinical_modernbert.encoder import PackedBatch, SegmentLayout, build_model, masked_loss_sum
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.pretrain import ModelSection
from clinical_modernbert.sources import Document, list_units, read_unit
from clinical_modernbert.tokenizer import build_tokenizer, special_ids
from transformers import ModernBertForMaskedLM

from benchmarks.harness import Row

ROW_LENGTH, NUM_ROWS, MASK_RATE, VOCABULARY = 128, 8, 0.3, 50_368


@dataclass(frozen=True, slots=True)
class Problem:
    """One model, seen by both sides, and real documents as token ids without [CLS] and [SEP]."""

    model: ModernBertForMaskedLM
    documents: list[list[int]]
    roles: dict[str, int]


def problem() -> Problem:
    """Read documents of every real source in turn, train a tokenizer on them, and make the model."""
    data = Path(os.environ.get("CLINICAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    recipe = CorpusRecipe.model_validate({"kind": "corpus", "name": "bench", "sources": real_sources(data)})
    texts = []
    for source in recipe.sources:
        found = (d for unit in list_units(source) for d in read_unit(source, unit) if isinstance(d, Document))
        texts.append([document.text for document in islice(found, 60)])
    mixed = [text for group in zip(*texts, strict=False) for text in group]
    tokenizer = build_tokenizer(TokenizerSection(base="train", vocabulary_size=16_384), mixed, clinical_words=set())
    roles = special_ids(tokenizer)
    section = ModelSection(num_layers=int(os.environ.get("LAYERS", "22")))
    model = build_model(section, vocabulary_size=VOCABULARY, special_ids=roles, seed=0)
    documents = tokenizer(mixed, add_special_tokens=False)["input_ids"]
    return Problem(model=model, documents=[ids for ids in documents if ids], roles=roles)


def segments(found: Problem) -> list[list[list[int]]]:
    """Return ``NUM_ROWS`` packed rows of whole segments with [CLS] and [SEP]."""
    flat = [i for ids in found.documents for i in ids]
    pieces, rows = pack_documents(np.array([len(ids) for ids in found.documents]), row_length=ROW_LENGTH)
    chosen = np.random.default_rng(0).permutation(len(rows))[:NUM_ROWS]
    cls_id, sep_id = found.roles["cls"], found.roles["sep"]
    return [
        [[cls_id, *flat[pieces.start[p] : pieces.start[p] + pieces.length[p]], sep_id] for p in rows[row]]
        for row in chosen
    ]


def packed_batch(rows: list[list[list[int]]], mask_id: int) -> PackedBatch:
    """Mask uniformly and pack, as the loader does."""
    flat = [segment for row in rows for segment in row]
    ids_T = torch.tensor([i for segment in flat for i in segment])
    masked_T = torch.rand(len(ids_T), generator=torch.Generator().manual_seed(0)) < MASK_RATE
    masked_N = masked_T.nonzero().flatten()
    layout = SegmentLayout.build([len(segment) for segment in flat])
    return PackedBatch(ids_T.masked_fill(masked_T, mask_id), layout, masked_N=masked_N, labels_N=ids_T[masked_N])


def ours(model: ModernBertForMaskedLM, rows: list[list[list[int]]], mask_id: int) -> int:
    """One micro-batch of ours, layout included."""
    model.set_attn_implementation("packed_sdpa")
    batch = packed_batch(rows, mask_id)
    (masked_loss_sum(model, batch) / len(batch.labels_N)).backward()
    model.zero_grad()
    return len(batch.input_ids_T)


def check(found: Problem, rows: list[list[list[int]]]) -> dict[str, Any]:
    """Loss and gradient of packed rows equal transformers' on each segment alone."""
    model, few = found.model, rows[:2]
    batch = packed_batch(few, found.roles["mask"])
    labels_T = torch.full_like(batch.input_ids_T, -100)
    labels_T[batch.masked_N] = batch.labels_N
    lengths = [len(segment) for row in few for segment in row]
    model.set_attn_implementation("packed_sdpa")
    loss = masked_loss_sum(model, batch)
    loss.backward()
    mine = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.set_attn_implementation("sdpa")
    total = 0.0
    for ids, labels in zip(batch.input_ids_T.split(lengths), labels_T.split(lengths), strict=True):
        part = F.cross_entropy(model(input_ids=ids[None]).logits[0], labels, reduction="sum")
        part.backward()
        total += part.item()
    theirs = [p.grad for p in model.parameters() if p.grad is not None]
    worst = max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in zip(mine, theirs, strict=True))
    model.zero_grad()
    if abs(loss.item() - total) > 1e-5 * total or worst > 1e-3:
        raise AssertionError(f"loss {loss.item()} against {total}, worst relative gradient difference {worst}")
    return {"loss": loss.item(), "loss_unpacked": total, "worst_relative_gradient_difference": worst}


def gemm_bound(found: Problem, rows: list[list[list[int]]]) -> int:
    """The matrix products of our side, forward and backward: 3 for each weight."""
    batch = packed_batch(rows, found.roles["mask"])
    tokens, masked = len(batch.input_ids_T), len(batch.labels_N)
    config = found.model.config
    width, inner = config.hidden_size, config.intermediate_size
    layer = [(width, 3 * width), (width, width), (width, 2 * inner), (inner, width)]
    shapes = [(tokens, k, n) for k, n in layer] * config.num_hidden_layers
    for rows_m, k, n in [*shapes, (masked, width, width), (masked, width, VOCABULARY)]:
        x_MK, w_NK, y_MN = (_buffer(*shape) for shape in ((rows_m, k), (n, k), (rows_m, n)))
        torch.mm(x_MK, w_NK.t(), out=y_MN)
        torch.mm(y_MN, w_NK, out=x_MK)
        torch.mm(y_MN.t(), x_MK, out=w_NK)
    return tokens


_BUFFERS: dict[tuple[int, int], torch.Tensor] = {}


def _buffer(num_rows: int, num_columns: int) -> torch.Tensor:
    return _BUFFERS.setdefault((num_rows, num_columns), torch.zeros(num_rows, num_columns))


def useful_flops(found: Problem, rows: list[list[list[int]]]) -> float:
    """Operations that serve real tokens: 6 a weight and token, 12 a pair seen and channel, the head on masked tokens only."""
    batch, config = packed_batch(rows, found.roles["mask"]), found.model.config
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    linear = 6 * len(batch.input_ids_T) * layers * (4 * width * width + 3 * width * inner)
    head = 6 * len(batch.labels_N) * (width * width + width * VOCABULARY)
    window, pairs = config.sliding_window, 0
    for kind in config.layer_types:
        for row in rows:
            for segment in row:
                near = len(segment) if kind == "full_attention" else min(len(segment), 2 * window + 1)
                pairs += len(segment) * near
    return float(linear + head + 12 * width * pairs)


def _padded(found: Problem) -> int:
    """The peer: as many documents as rows, truncated and padded to 128."""
    pad_id, mask_id = found.roles["pad"], found.roles["mask"]
    chosen = np.random.default_rng(1).permutation(len(found.documents))[:NUM_ROWS]
    texts = [[found.roles["cls"], *found.documents[d][: ROW_LENGTH - 2], found.roles["sep"]] for d in chosen]
    ids_RL = torch.tensor([[*text, *[pad_id] * (ROW_LENGTH - len(text))] for text in texts])
    valid_RL = ids_RL != pad_id
    masked_RL = valid_RL & (torch.rand(ids_RL.shape, generator=torch.Generator().manual_seed(0)) < MASK_RATE)
    model = found.model
    model.set_attn_implementation("sdpa")
    labels_RL = ids_RL.masked_fill(~masked_RL, -100)
    model(
        input_ids=ids_RL.masked_fill(masked_RL, mask_id), attention_mask=valid_RL.long(), labels=labels_RL
    ).loss.backward()
    model.zero_grad()
    return int(valid_RL.sum())


def build(scratch: Path) -> Row:
    """Return the row; LAYERS=4 measures the shallow model, 22 layers otherwise."""
    found = problem()
    rows = segments(found)
    return Row(
        name=f"train-packed-{found.model.config.num_hidden_layers}",
        unit="real tokens",
        peer=f"transformers {transformers.__version__}, padded to {ROW_LENGTH}, full head",
        check=lambda: {**check(found, rows), "useful_flops": useful_flops(found, rows)},
        ours=lambda: ours(found.model, rows, found.roles["mask"]),
        other=lambda: _padded(found),
        bound=lambda: gemm_bound(found, rows),
        target=">= 4 at 4 layers, >= 3.5 at 22",
    )
