"""Shared by the pretraining rows: real documents of the demo's mixture, one model for both sides, its bound and its check.

Documents are drawn with the weights of the demo's corpus recipe (narrative four times, ICD-10 a fifth). Ours packs their
segments into rows of 128 as the corpus does; transformers takes each document as a row, truncated and padded, or rows cut from
all of them in one stream (run_mlm's ``group_texts``). A side runs one micro-batch of NUM_ROWS rows: masking, forward and
backward, and adds its gradients to the present ones. The optimizer's step is left out on both sides, because it comes once in a
global batch (704 rows in the paper's recipe); the check reports its seconds.

Memory: ours keeps freed memory (``keep_freed_memory``), as every training worker of the platform does. transformers runs as its
users run it, with glibc's default, and with our setting as a variant.
"""

import copy
import ctypes
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from clinical_modernbert.corpus.packing import pack_documents
from clinical_modernbert.corpus.shards import RowBatch
from clinical_modernbert.demo.data import real_sources
from clinical_modernbert.encoder import (
    PackedBatch,
    SegmentLayout,
    build_model,
    keep_freed_memory,
    masked_loss_sum,
    train_by_fastest,
)
from clinical_modernbert.encoder.linear import TrainedLinear, onednn
from clinical_modernbert.masking import Masker, token_ranges
from clinical_modernbert.recipe import CorpusRecipe
from clinical_modernbert.recipe.corpus import TokenizerSection
from clinical_modernbert.recipe.optimizer import OptimizerSection
from clinical_modernbert.recipe.pretrain import MaskingSection, ModelSection
from clinical_modernbert.recipe.training_run import TrainScaling
from clinical_modernbert.sources import Document, list_units, read_unit
from clinical_modernbert.tokenizer import build_tokenizer, special_ids
from clinical_modernbert.training.batches import pack_rows
from clinical_modernbert.training.engine import MaskedLanguageLoss, build_engine
from clinical_modernbert.training.meter import step_flops
from transformers import (
    DataCollatorForLanguageModeling,
    ModernBertForMaskedLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainingArguments,
)

from benchmarks.harness import Row

ROW_LENGTH, NUM_ROWS, MASK_RATE, VOCABULARY, NUM_DOCUMENTS = 128, 8, 0.3, 50_368, 4_000


@dataclass(frozen=True, slots=True)
class Texts:
    """Documents of the mixture as token ids without [CLS] and [SEP]."""

    tokenizer: PreTrainedTokenizerFast
    documents: list[list[int]]

    @property
    def roles(self) -> dict[str, int]:
        return special_ids(self.tokenizer)


def read_texts() -> Texts:
    """Draw documents of every real source by its weight, and train a tokenizer on them."""
    data = Path(os.environ.get("CLINICAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data"))
    recipe = CorpusRecipe.model_validate({"kind": "corpus", "name": "bench", "sources": real_sources(data)})
    found, weights = [], []
    for source in recipe.sources:
        texts = [d.text for unit in list_units(source) for d in read_unit(source, unit) if isinstance(d, Document)]
        found += texts
        weights += [source.epochs] * len(texts)
    share = np.array(weights) / sum(weights)
    drawn = [found[i] for i in np.random.default_rng(0).choice(len(found), NUM_DOCUMENTS, p=share)]
    tokenizer = build_tokenizer(TokenizerSection(base="train", vocabulary_size=16_384), drawn, clinical_words=set())
    return Texts(tokenizer, [ids for ids in tokenizer(drawn, add_special_tokens=False)["input_ids"] if ids])


def build_bench_model(texts: Texts, *, num_layers: int, scale: float = 1.0) -> ModernBertForMaskedLM:
    """Return a model of ModernBERT-base's width (times ``scale``) and vocabulary."""
    keep_freed_memory()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    section = ModelSection(
        num_layers=num_layers,
        hidden_size=int(768 * scale),
        intermediate_size=int(1152 * scale),
        num_heads=int(12 * scale),
    )
    return build_model(section, vocabulary_size=VOCABULARY, special_ids=texts.roles, seed=0)


def packed_rows(texts: Texts, *, num_rows: int = NUM_ROWS) -> RowBatch:
    """Return rows of whole pieces with [CLS] and [SEP], as the corpus packs them."""
    flat = [i for ids in texts.documents for i in ids]
    pieces, rows = pack_documents(np.array([len(ids) for ids in texts.documents]), row_length=ROW_LENGTH)
    cls_id, sep_id = texts.roles["cls"], texts.roles["sep"]
    chosen = [
        [[cls_id, *flat[pieces.start[p] : pieces.start[p] + pieces.length[p]], sep_id] for p in rows[row]]
        for row in np.random.default_rng(0).permutation(len(rows))[:num_rows]
    ]
    lengths = [len(segment) for row in chosen for segment in row]
    ids_RL = np.full((num_rows, ROW_LENGTH), texts.roles["pad"], dtype=np.int64)
    for place, row in zip(ids_RL, chosen, strict=True):
        filled = [i for segment in row for i in segment]
        place[: len(filled)] = filled
    none_S = np.zeros(len(lengths), dtype=np.int64)
    return RowBatch(
        ids_RL=ids_RL,
        salient_RL=np.zeros(ids_RL.shape, dtype=np.bool_),
        valid_RL=ids_RL != texts.roles["pad"],
        lengths_S=np.array(lengths),
        sources_S=none_S,
        documents_S=none_S.astype(np.uint64),
        rows_S=np.repeat(np.arange(num_rows), [len(row) for row in chosen]),
    )


def build_masker(texts: Texts) -> Masker:
    """Return uniform masking at the rate of the collator."""
    section = MaskingSection(strategy="uniform", rate_start=MASK_RATE, rate_end=MASK_RATE)
    return Masker(section, token_ranges(texts.tokenizer), num_steps=100, seed=0)


class Ours:
    """Our side: the loader's masking and packing, then the engine's forward and backward."""

    def __init__(
        self, texts: Texts, model: ModernBertForMaskedLM, rows: RowBatch, *, share: tuple[int, int] = (0, 1)
    ) -> None:
        """``share`` is this worker's number and how many there are; each takes a stretch of the rows."""
        train_by_fastest(model)
        self.model, self.rows, self._masker, self._share = model, rows, build_masker(texts), share
        section = OptimizerSection(algorithm="adamw")
        self.engine = build_engine(
            MaskedLanguageLoss(model, precision="float32"),
            scaling=TrainScaling(engine="torch"),
            optimizer=section,
            num_micro_batches=1,
        )

    def batch(self) -> PackedBatch:
        """Mask and pack."""
        rows = self.rows
        ids, selected = self._masker.mask(
            rows.ids_RL, salient_RL=rows.salient_RL, valid_RL=rows.valid_RL, rows_R=np.arange(len(rows.ids_RL)), step=0
        )
        return pack_rows(rows, input_RL=ids, selected_RL=selected, device=torch.device("cpu"))

    def run(self) -> int:
        """One micro-batch; returns its real tokens."""
        batch, (number, workers) = self.batch(), self._share
        if workers == 1:
            self.engine.backward(batch, num_masked=len(batch.labels_N))
            return len(batch.input_ids_T)
        segments = self.rows.rows_S * workers // len(self.rows.ids_RL) == number
        first = int(self.rows.lengths_S[: np.argmax(segments)].sum())
        mine = _stretch(batch, first=first, lengths=self.rows.lengths_S[segments].tolist())
        self.engine.backward(mine, num_masked=len(batch.labels_N))
        return len(mine.input_ids_T)

    def optimizer_step_s(self) -> float:
        """Seconds of one clipped step of torch's fused AdamW, its first apart, and forget the gradients."""
        for _ in range(2):
            for parameter in self.model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            start = time.perf_counter()
            self.engine.step(learning_rate=0.0)
        return time.perf_counter() - start


def _stretch(batch: PackedBatch, *, first: int, lengths: list[int]) -> PackedBatch:
    """Return the segments of ``lengths`` from token ``first`` on, with what is masked in them."""
    end = first + sum(lengths)
    inside_N = (batch.masked_N >= first) & (batch.masked_N < end)
    return PackedBatch(
        batch.input_ids_T[first:end],
        SegmentLayout.build(lengths),
        batch.masked_N[inside_N] - first,
        batch.labels_N[inside_N],
    )


class Peer:
    """transformers' side: DataCollatorForLanguageModeling and the Trainer's own step on the same weights."""

    def __init__(
        self, texts: Texts, model: ModernBertForMaskedLM, rows: list[list[int]], *, sparse: bool, folder: Path
    ) -> None:
        self.rows = rows
        self._collate = DataCollatorForLanguageModeling(
            texts.tokenizer, mlm_probability=MASK_RATE, pad_to_multiple_of=ROW_LENGTH
        )
        self._pad = texts.roles["pad"]
        # A model of its own around the same weights and gradients: five copies of 149 M would not fit a small machine.
        self._model = copy.deepcopy(model, {id(parameter): parameter for parameter in model.parameters()})
        for layer in self._model.modules():
            if isinstance(layer, TrainedLinear):
                layer.__class__ = torch.nn.Linear  # the peer multiplies as torch does
        self._model.set_attn_implementation("sdpa")
        self._model.config.sparse_prediction = self._model.sparse_prediction = sparse
        arguments = TrainingArguments(output_dir=str(folder), use_cpu=True, report_to=[], disable_tqdm=True)
        self._trainer = Trainer(model=self._model, args=arguments, data_collator=self._collate)
        self._trainer.current_gradient_accumulation_steps = 1

    def compile_layers(self) -> None:
        """Compile each layer in place, as accelerate's regional compilation does: kinds of layers share their code."""
        for layer in self._model.model.layers:
            layer.compile()

    def run(self, *, keep_memory: bool = False) -> int:
        """One micro-batch; returns its real tokens."""
        if keep_memory:
            return self._step()
        with return_memory():
            return self._step()

    def _step(self) -> int:
        batch = self._collate([{"input_ids": row} for row in self.rows])
        real = int((batch["input_ids"] != self._pad).sum())
        if real == batch["input_ids"].numel():
            batch.pop("attention_mask", None)  # nothing is padded: transformers need not look
        self._trainer.training_step(self._model, dict(batch))
        return real


@contextmanager
def return_memory() -> Iterator[None]:
    """Give malloc the thresholds that glibc arrives at by itself after the first large blocks: 32 MiB, and twice that."""
    mallopt = ctypes.CDLL(None).mallopt
    for option, value in ((-3, 32 << 20), (-1, 64 << 20), (-2, 128 << 10)):
        mallopt(option, value)
    try:
        yield
    finally:
        keep_freed_memory()


def padded_rows(texts: Texts) -> list[list[int]]:
    """Return documents in the order drawn, each truncated to 128 tokens; the collator pads them to 128."""
    cls_id, sep_id = texts.roles["cls"], texts.roles["sep"]
    return [[cls_id, *ids[: ROW_LENGTH - 2], sep_id] for ids in islice(texts.documents, NUM_ROWS)]


def grouped_rows(texts: Texts) -> list[list[int]]:
    """Return rows of 128 cut from the stream of all documents."""
    stream = [i for ids in texts.documents for i in (texts.roles["cls"], *ids, texts.roles["sep"])]
    return [stream[n * ROW_LENGTH : (n + 1) * ROW_LENGTH] for n in range(NUM_ROWS)]


def check(texts: Texts, ours: Ours) -> dict[str, Any]:
    """Loss and gradients of packed rows equal transformers' on the same segments, padded; and facts about the batch."""
    model, batch = ours.model, ours.batch()
    lengths = ours.rows.lengths_S[ours.rows.rows_S < 3].tolist()
    few = _stretch(batch, first=0, lengths=lengths)
    masked_N = few.masked_N
    loss = masked_loss_sum(model, few) / len(masked_N)
    loss.backward()
    mine = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    labels_T = torch.full_like(few.input_ids_T, -100)
    labels_T[masked_N] = few.labels_N
    name = model.config._attn_implementation
    model.set_attn_implementation("sdpa")
    pad = torch.nn.utils.rnn.pad_sequence
    ids_SL = pad(few.input_ids_T.split(lengths), batch_first=True, padding_value=texts.roles["pad"])
    labels_SL = pad(labels_T.split(lengths), batch_first=True, padding_value=-100)
    valid_SL = torch.arange(max(lengths))[None, :] < torch.tensor(lengths)[:, None]
    reference = model(input_ids=ids_SL, attention_mask=valid_SL.long(), labels=labels_SL).loss
    reference.backward()
    theirs = [p.grad for p in model.parameters() if p.grad is not None]
    model.zero_grad()
    model.set_attn_implementation(name)
    worst = max(float((a - b).norm() / b.norm()) for a, b in zip(mine, theirs, strict=True))
    if abs(loss.item() - reference.item()) > 1e-5 * reference.item() or worst > 1e-5:
        raise AssertionError(f"loss {loss.item()} against {reference.item()}, gradients differ by up to {worst}")
    return {
        "loss": loss.item(),
        "loss_of_transformers": reference.item(),
        "worst_relative_gradient_difference": worst,
        "real_tokens_of_ours": int(ours.rows.valid_RL.sum()),
        "segments_of_ours": len(ours.rows.lengths_S),
        "useful_flops": step_flops(model.config, ours.rows.lengths_S, num_masked=len(batch.labels_N)),
        "optimizer_step_s": ours.optimizer_step_s(),
    }


_BUFFERS: dict[tuple[int, int], torch.Tensor] = {}


def gemm_bound(model: ModernBertForMaskedLM, batch: PackedBatch) -> int:
    """The matrix products of our side, three a weight, into memory that is there: attention and all else cost nothing."""
    tokens, masked = len(batch.input_ids_T), len(batch.labels_N)
    config = model.config
    width, inner, layers = config.hidden_size, config.intermediate_size, config.num_hidden_layers
    block = [(width, width), (width, 2 * inner), (inner, width)]
    shapes = [(tokens, width, 3 * width)] * layers + [(tokens, k, n) for k, n in block] * (layers - 1)
    shapes += [(masked, k, n) for k, n in [*block, (width, width), (width, VOCABULARY)]]
    by_onednn = any(isinstance(layer, TrainedLinear) for layer in model.modules())
    for rows, k, n in shapes:
        x_MK, w_NK, y_MN = (_BUFFERS.setdefault(shape, torch.zeros(*shape)) for shape in ((rows, k), (n, k), (rows, n)))
        if by_onednn:
            onednn(x_MK, w_NK)
            onednn(y_MN, w_NK.t())
            onednn(y_MN.t(), x_MK.t())
            continue
        torch.mm(x_MK, w_NK.t(), out=y_MN)
        torch.mm(y_MN, w_NK, out=x_MK)
        torch.mm(y_MN.t(), x_MK, out=w_NK)
    return tokens


def transformers_version() -> str:
    """Return the peer's name and version."""
    return f"transformers {transformers.__version__} Trainer"


def rows_of_two_depths(make: Callable[[Texts, int, Row | None], Row]) -> Row:
    """Return the row of the base model's 22 layers, which also times 4 layers: ``make(texts, num_layers, also)``."""
    texts = read_texts()
    return make(texts, 22, make(texts, 4, None))
