"""Figure 3: seconds over number of texts, under three labelled protocols, with tokenization stated apart.

``as_its_code``: float32, gradients kept, fixed batches, and for BERT's family the slow Python tokenizer, while ModernBERT's fast
one is timed against it: that alone can turn the order. ``as_its_text``: inference, mixed precision where the hardware has it,
one fixed length, fast tokenizers. ``fair``: texts of mixed length, every encoder at its best way here (no padding for
ModernBERT, batches of like length for others). Rounds of all encoders are interleaved and their order turns: machines drift.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.figures import draw_efficiency
from clinical_modernbert.evaluation.heads import device, hidden_states, load_base, load_tokenizer
from clinical_modernbert.evaluation.tuning import by_length
from clinical_modernbert.evaluation.windows import encode_texts
from clinical_modernbert.recipe.evaluate import EfficiencySection, EvaluateScaling
from clinical_modernbert.training.precision import has_bfloat16

_WORDS = [
    "patient",
    "admitted",
    "with",
    "acute",
    "chest",
    "pain",
    "dyspnea",
    "history",
    "of",
    "hypertension",
    "diabetes",
    "mellitus",
    "started",
    "on",
    "aspirin",
    "heparin",
    "metoprolol",
    "labs",
    "notable",
    "for",
    "elevated",
    "troponin",
    "creatinine",
    "imaging",
    "showed",
    "no",
    "effusion",
    "discharged",
    "home",
    "in",
    "stable",
    "condition",
]

Tokenize = Callable[[Sequence[str]], list[list[int]]]


def efficiency_report(
    section: EfficiencySection, encoders: Sequence[LocalEncoder], *, folder: Path, scaling: EvaluateScaling
) -> dict[str, Any]:
    """Return protocol -> encoder -> points, which are the figure's data, and write ``figure3.png``."""
    torch.set_num_threads(scaling.num_cpus)
    models = {encoder.name: load_base(encoder, attention=scaling.attention) for encoder in encoders}
    protocols: dict[str, dict[str, list[dict[str, Any]]]] = {}
    notes: dict[str, dict[str, str]] = {}
    for protocol in ("as_its_code", "as_its_text", "fair"):
        tokenizers = {encoder.name: _tokenizer(encoder, protocol, section) for encoder in encoders}
        notes[protocol] = {name: note for name, (_, note) in tokenizers.items()}
        protocols[protocol] = {encoder.name: [] for encoder in encoders}
        for size in section.num_texts:
            texts = synthetic_texts(size, num_words=section.num_tokens, mixed=protocol == "fair")
            rounds: dict[str, list[tuple[float, float, int]]] = {encoder.name: [] for encoder in encoders}
            names = list(rounds)
            for number in range(section.num_rounds):
                for name in names[number % len(names) :] + names[: number % len(names)]:
                    rounds[name].append(
                        _time(models[name], tokenizers[name][0], texts, protocol, section=section, scaling=scaling)
                    )
            for name, timed in rounds.items():
                protocols[protocol][name].append(_point(size, timed))
    draw_efficiency(folder / "figure3.png", protocols)
    hardware = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{scaling.num_cpus} CPU threads"
    return {"hardware": hardware, "words": section.num_tokens, "protocols": protocols, "tokenizers": notes}


def synthetic_texts(count: int, *, num_words: int, mixed: bool) -> list[str]:
    """Return generated clinical-looking words; ``mixed`` draws lengths around half of ``num_words`` as real notes vary."""
    rng = np.random.default_rng(0)
    lengths = np.full(count, num_words)
    if mixed:
        lengths = np.clip(rng.normal(num_words / 2, num_words / 8, size=count), 8, num_words).astype(int)
    return [" ".join(rng.choice(_WORDS, size=length)) for length in lengths.tolist()]


def _point(size: int, timed: list[tuple[float, float, int]]) -> dict[str, Any]:
    seconds = [tokenizing + encoding for tokenizing, encoding, _ in timed]
    return {
        "texts": size,
        "seconds": seconds,
        "mean_seconds": float(np.mean(seconds)),
        "tokenizing_seconds": float(np.mean([tokenizing for tokenizing, _, _ in timed])),
        "tokens": timed[0][2],
        "texts_per_second": size / float(np.mean(seconds)),
        "tokens_per_second": timed[0][2] / float(np.mean(seconds)),
    }


def _tokenizer(encoder: LocalEncoder, protocol: str, section: EfficiencySection) -> tuple[Tokenize, str]:
    limit = min(encoder.max_tokens, section.num_tokens)
    vocabulary = encoder.folder / "vocab.txt"
    if protocol == "as_its_code" and encoder.architecture in ("bert", "distilbert") and vocabulary.is_file():
        from transformers import BertTokenizerLegacy

        slow = BertTokenizerLegacy(str(vocabulary))
        return lambda texts: slow(list(texts), truncation=True, max_length=limit)["input_ids"], "slow (Python)"
    fast = load_tokenizer(encoder.folder)
    return lambda texts: encode_texts(fast, texts, max_tokens=limit)[0], "fast (Rust)"


def _time(
    base: Any,
    tokenize: Tokenize,
    texts: list[str],
    protocol: str,
    *,
    section: EfficiencySection,
    scaling: EvaluateScaling,
) -> tuple[float, float, int]:
    """Return (seconds of tokenizing, seconds of encoding, tokens) from texts to last hidden states; the batches go one by one."""
    tokenizing = encoding = 0.0
    tokens = 0
    batches: list[list[list[int]]]
    if protocol == "fair":
        began = time.perf_counter()
        ids = tokenize(texts)
        tokenizing = time.perf_counter() - began
        batches = [
            [ids[i] for i in part]
            for part in by_length([len(t) for t in ids], max_batch_tokens=scaling.max_batch_tokens)
        ]
    else:
        batches = []
        for start in range(0, len(texts), section.batch_size):
            began = time.perf_counter()
            batches.append(tokenize(texts[start : start + section.batch_size]))
            tokenizing += time.perf_counter() - began
    for batch in batches:
        tokens += sum(len(text) for text in batch)
        began = time.perf_counter()
        with _arithmetic(protocol):
            hidden_states(base, batch)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        encoding += time.perf_counter() - began
    return tokenizing, encoding, tokens


@contextmanager
def _arithmetic(protocol: str) -> Iterator[None]:
    if protocol == "as_its_code":
        yield
        return
    on = device()
    with torch.inference_mode(), torch.autocast(on.type, dtype=torch.bfloat16, enabled=has_bfloat16(on)):
        yield
