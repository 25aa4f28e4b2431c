"""What figure 3 times: synthetic texts, and every encoder's fast tokenizer or, for BERT and DistilBERT, the slow one in Python.

The slow tokenizer is made from the fast one with its vocabulary and casing, so that both give the same ids and differ in time
only. A slow tokenizer made from a vocabulary alone would be uncased for every model.
"""

import json
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import BertTokenizerLegacy, PreTrainedTokenizerFast

from clinical_modernbert.evaluation.encoders import LocalEncoder
from clinical_modernbert.evaluation.tasks.windows import encode_texts
from clinical_modernbert.tokenizer import load_tokenizer

_WORDS = (
    "patient admitted with acute chest pain dyspnea history of hypertension diabetes mellitus started on aspirin heparin "
    "metoprolol labs notable for elevated troponin creatinine imaging showed no effusion discharged home in stable condition"
)

Tokenize = Callable[[Sequence[str]], list[list[int]]]


def synthetic_texts(count: int, *, num_words: int, mixed: bool) -> list[str]:
    """Return generated clinical-looking words; ``mixed`` draws lengths around half of ``num_words``."""
    rng = np.random.default_rng(0)
    words, lengths = _WORDS.split(), np.full(count, num_words)
    if mixed:
        lengths = np.clip(rng.normal(num_words / 2, num_words / 8, size=count), 8, num_words).astype(int)
    return [" ".join(rng.choice(words, size=length)) for length in lengths.tolist()]


def timed_tokenizer(encoder: LocalEncoder, *, max_tokens: int, slow: bool) -> tuple[Tokenize, str]:
    """Return a function from texts to ids with [CLS] and [SEP], and its name; ``slow`` takes effect for BERT and DistilBERT."""
    fast = load_tokenizer(encoder.folder)
    legacy = slow_tokenizer(fast) if slow and encoder.architecture in ("bert", "distilbert") else None
    if legacy is None:
        return lambda texts: encode_texts(fast, texts, max_tokens=max_tokens)[0], "fast (Rust)"
    return lambda texts: legacy(list(texts), truncation=True, max_length=max_tokens)["input_ids"], "slow (Python)"


def slow_tokenizer(fast: PreTrainedTokenizerFast) -> BertTokenizerLegacy | None:
    """Return BERT's Python tokenizer with the ids of ``fast``; None if that one is not BERT's WordPiece."""
    settings: dict[str, Any] = json.loads(fast.backend_tokenizer.to_str())
    normalizer = settings["normalizer"] or {}
    if settings["model"]["type"] != "WordPiece" or normalizer.get("type") != "BertNormalizer":
        return None
    vocabulary: dict[str, int] = settings["model"]["vocab"]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("".join(f"{token}\n" for token in sorted(vocabulary, key=vocabulary.__getitem__)), "utf-8")
        return BertTokenizerLegacy(
            str(path),
            do_lower_case=normalizer["lowercase"],
            strip_accents=normalizer["strip_accents"],
            tokenize_chinese_chars=normalizer["handle_chinese_chars"],
            **{name: str(token) for name, token in fast.special_tokens_map.items() if isinstance(token, str)},
        )
