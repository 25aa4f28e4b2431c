"""Figure 3: seconds over the number of texts, under three labelled protocols; tokenisation is timed separately.

``as_its_code`` follows the paper's script: texts of mixed length in batches of 64 in the given order, padded to the longest
(ModernBERT too), float32, gradients kept. BERT and DistilBERT take the slow Python tokenizer and ModernBERT the fast one, which
alone can change the order of the encoders.
``as_its_text`` follows the paper's text: inference, mixed precision if the hardware has it, one fixed length, fast tokenizers.
``fair`` runs every encoder at its best on texts of mixed length: no padding for ModernBERT, batches of similar length for others.

Each encoder runs one batch before the clock starts. Rounds of all encoders are interleaved and their order rotates, because
machines drift.
"""

import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from clinical_modernbert.encoder import default_device, has_bfloat16, products_in, use_attention
from clinical_modernbert.encoder.forward import padded_states, states
from clinical_modernbert.evaluation.efficiency.texts import Tokenize, synthetic_texts, timed_tokenizer
from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.heads import load_base
from clinical_modernbert.evaluation.report.plots import PROTOCOLS, draw_efficiency
from clinical_modernbert.evaluation.report.schema import EfficiencyReport, TimedPoint
from clinical_modernbert.evaluation.tuning import by_length
from clinical_modernbert.recipe.evaluate import EfficiencySection, EvaluateScaling


@dataclass(frozen=True, slots=True)
class Timed:
    """One round: all texts, from strings to last hidden states."""

    tokenizing_s: float
    encoding_s: float
    tokens: int
    """Without padding."""
    memory_bytes: int | None
    """Peak memory without the weights; None without a GPU."""

    @property
    def seconds(self) -> float:
        """Tokenising and encoding."""
        return self.tokenizing_s + self.encoding_s


def efficiency_report(
    section: EfficiencySection, encoders: Sequence[LocalEncoder], *, folder: Path, scaling: EvaluateScaling
) -> EfficiencyReport:
    """Return protocol -> encoder -> points; write ``figure3.png`` and, a row a round, ``figure3.parquet``."""
    torch.set_num_threads(scaling.num_cpus)
    models = {encoder.name: load_base(encoder, attention=scaling.attention) for encoder in encoders}
    protocols: dict[str, dict[str, list[TimedPoint]]] = {}
    notes: dict[str, dict[str, str]] = {}
    rows: list[dict[str, str | float | None]] = []
    for protocol in PROTOCOLS:
        tokenizers = {
            encoder.name: timed_tokenizer(
                encoder, max_tokens=min(encoder.max_tokens, section.num_tokens), slow=protocol == "as_its_code"
            )
            for encoder in encoders
        }
        notes[protocol] = {name: note for name, (_, note) in tokenizers.items()}
        tokenize = {name: function for name, (function, _) in tokenizers.items()}
        protocols[protocol] = {name: [] for name in models}
        for size, name, timed in _rounds(protocol, models, tokenize, section=section, scaling=scaling):
            protocols[protocol][name].append(_point(size, timed))
            rows += [
                {"protocol": protocol, "encoder": name, "texts": size, "round": number, "seconds": one.seconds,
                 "tokenizing_seconds": one.tokenizing_s, "tokens": one.tokens, "memory_bytes": one.memory_bytes}
                for number, one in enumerate(timed)
            ]  # fmt: skip
    draw_efficiency(folder / "figure3.png", protocols)
    pq.write_table(pa.Table.from_pylist(rows), folder / "figure3.parquet", compression="zstd")
    return EfficiencyReport(
        hardware=_hardware(scaling),
        words=section.num_tokens,
        arithmetic={protocol: _arithmetic_name(protocol) for protocol in PROTOCOLS},
        protocols=protocols,
        tokenizers=notes,
    )


def _rounds(
    protocol: str,
    models: dict[str, torch.nn.Module],
    tokenize: dict[str, Tokenize],
    *,
    section: EfficiencySection,
    scaling: EvaluateScaling,
) -> Iterator[tuple[int, str, list[Timed]]]:
    """Yield size, encoder and its rounds."""

    def clock(name: str, texts: list[str]) -> Timed:
        return time_texts(models[name], tokenize[name], texts, protocol, section=section, scaling=scaling)

    mixed, names = protocol != "as_its_text", list(models)
    for name in names:
        attend(models[name], protocol, scaling)
        clock(name, synthetic_texts(section.batch_size, num_words=section.num_tokens, mixed=mixed))
    for size in section.num_texts:
        texts = synthetic_texts(size, num_words=section.num_tokens, mixed=mixed)
        timed: dict[str, list[Timed]] = {name: [] for name in names}
        for number in range(section.num_rounds):
            turn = number % len(names)
            for name in names[turn:] + names[:turn]:
                timed[name].append(clock(name, texts))
        yield from ((size, name, rounds) for name, rounds in timed.items())


def time_texts(
    base: Any,
    tokenize: Tokenize,
    texts: list[str],
    protocol: str,
    *,
    section: EfficiencySection,
    scaling: EvaluateScaling,
) -> Timed:
    """Time one round; batches run one after the other."""
    on_gpu = torch.cuda.is_available()
    held = torch.cuda.memory_allocated() if on_gpu else 0
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    forward = padded_states if protocol == "as_its_code" else states
    tokenizing = encoding = 0.0
    batches = []
    step = len(texts) if protocol == "fair" else section.batch_size
    for start in range(0, len(texts), step):
        began = time.perf_counter()
        batches.append(tokenize(texts[start : start + step]))
        tokenizing += time.perf_counter() - began
    if protocol == "fair":
        (ids,) = batches
        parts = by_length([len(text) for text in ids], max_batch_tokens=scaling.max_batch_tokens)
        batches = [[ids[i] for i in part] for part in parts]
    for batch in batches:
        began = time.perf_counter()
        with _arithmetic(protocol):
            forward(base, batch)
        if on_gpu:
            torch.cuda.synchronize()
        encoding += time.perf_counter() - began
    memory = torch.cuda.max_memory_allocated() - held if on_gpu else None
    return Timed(tokenizing, encoding, sum(len(text) for batch in batches for text in batch), memory)


def attend(base: Any, protocol: str, scaling: EvaluateScaling) -> None:
    """Set ModernBERT's attention to that of the protocol."""
    if base.config.model_type != "modernbert":
        return
    if protocol == "as_its_code":
        base.set_attn_implementation("sdpa")  # transformers' own choice for padded batches
    else:
        use_attention(base, scaling.attention)


@contextmanager
def _arithmetic(protocol: str) -> Iterator[None]:
    if protocol == "as_its_code":
        yield
        return
    on = default_device()
    with torch.inference_mode(), products_in("bfloat16" if has_bfloat16(on) else "float32", on):
        yield


def _arithmetic_name(protocol: str) -> str:
    if protocol == "as_its_code":
        return "float32, gradients kept"
    return "bfloat16 products" if has_bfloat16(default_device()) else "float32"


def _hardware(scaling: EvaluateScaling) -> str:
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"CPU, {scaling.num_cpus} thread(s), fast tokenizers on all {os.cpu_count()} cores"


def _point(size: int, timed: list[Timed]) -> TimedPoint:
    seconds = [one.seconds for one in timed]
    mean = float(np.mean(seconds))
    return TimedPoint(
        texts=size,
        seconds=seconds,
        mean_seconds=mean,
        tokenizing_seconds=float(np.mean([one.tokenizing_s for one in timed])),
        tokens=timed[0].tokens,
        texts_per_second=size / mean,
        tokens_per_second=timed[0].tokens / mean,
        memory_bytes=max((one.memory_bytes for one in timed if one.memory_bytes is not None), default=None),
    )
