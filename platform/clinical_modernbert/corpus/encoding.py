"""Texts to token ids and offsets by words that were met before: what the tokenizers library gives, several times as fast.

Byte-level BPE splits a text into words by one expression and merges within each word only, so that a word has the same tokens
wherever it stands. The library does each word; a table of its answers does the text. The words of abstracts and notes repeat:
after some thousand texts one word in a hundred is new. Texts of which that does not hold go to the library whole: a tokenizer
with other rules, text that is not NFC, and scripts whose letters newer editions of Unicode add to (the editions of two
libraries would have to agree).
"""

import json
import re
import unicodedata
from dataclasses import dataclass
from typing import Any

import numpy as np
import regex
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from clinical_modernbert.tokenizer import encode_with_offsets

# The words of GPT-2's byte-level BPE, which GPT-NeoX, OLMo and ModernBERT share; the first is for ASCII, at twice the speed.
_ASCII_WORD = re.compile(r" ?[A-Za-z]+| ?[0-9]+|'(?:[stmd]|re|ve|ll)| ?[^\sA-Za-z0-9]+|\s+(?!\S)|\s+")
_WORD = regex.compile(r"'(?:[stmd]|re|ve|ll)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")
# Latin, Greek, Cyrillic, punctuation and symbols. \x1c to \x1f and \x85 are blanks to Python only.
_UNUSUAL = re.compile("[^\0-\x1b\x20-\x84\x86-\u052f\u1e00-\u208e\u2090-\u209c\u20a0-\u2bff]")
# Of the table, about 100 MB with its words; then it starts anew.
_MOST_TOKENS = 2_000_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of texts as flat arrays; offsets are of the texts joined without anything between."""

    ids_N: NDArray[np.int32]
    starts_N: NDArray[np.signedinteger[Any]]
    ends_N: NDArray[np.signedinteger[Any]]
    lengths_D: NDArray[np.int64]
    """Tokens of each text."""


class WordEncoder:
    """Encodes without [CLS] and [SEP]; keeps the tokens of every word it met."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        self._tokenizer = tokenizer
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        split, normalizer = state["pre_tokenizer"] or {}, state["normalizer"] or {"type": "NFC"}
        self._by_words = (
            split.get("type") == "ByteLevel"
            and split.get("use_regex", True)
            and not split.get("add_prefix_space")
            and normalizer["type"] == "NFC"
        )
        # Some added tokens take the blanks around them, or stand alone only: those are left to the library.
        greedy = [
            token for token in state["added_tokens"] if token["lstrip"] or token["rstrip"] or token["single_word"]
        ]
        self._greedy = _any_of(greedy)
        self._added = _any_of([token for token in state["added_tokens"] if token not in greedy])
        self.forget()

    def encode(self, texts: list[str]) -> Encoded:
        """Return the tokens of ``texts``, in their order."""
        words: list[str] = []
        counts = []
        for text in texts:
            found = self._words(text)
            words += found
            counts.append(len(found))
        numbers_W = self._numbers_of(words)
        sizes_W = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        tokens_W = self._count[numbers_W]
        sums = np.concatenate(([0], np.cumsum(tokens_W)))
        at_N = np.repeat(self._first[numbers_W] - sums[:-1], tokens_W) + np.arange(sums[-1])
        from_N = np.repeat(np.cumsum(sizes_W) - sizes_W, tokens_W)
        return Encoded(
            ids_N=self._ids[at_N],
            starts_N=from_N + self._starts[at_N],
            ends_N=from_N + self._ends[at_N],
            lengths_D=np.diff(sums[np.cumsum([0, *counts])]),
        )

    def _words(self, text: str) -> list[str]:
        """Return what the tokenizer merges within; the whole text as one word where only the library knows."""
        if not self._by_words or _UNUSUAL.search(text) or (self._greedy and self._greedy.search(text)):
            return [text]
        if text.isascii():
            pattern: Any = _ASCII_WORD
        elif unicodedata.is_normalized("NFC", text):
            pattern = _WORD
        else:
            return [text]
        if not (self._added and self._added.search(text)):
            return list(pattern.findall(text))
        # Every other part is an added token: of base tokenizers with runs of blanks, most notes hold some.
        parts = self._added.split(text)
        return [word for n, part in enumerate(parts) for word in ([part] if n % 2 else pattern.findall(part))]

    def _numbers_of(self, words: list[str]) -> NDArray[np.int64]:
        try:
            return np.array(list(map(self._numbers.__getitem__, words)), dtype=np.int64)
        except KeyError:
            self._learn(words)
            return np.array(list(map(self._numbers.__getitem__, words)), dtype=np.int64)

    def forget(self) -> None:
        """Empty the table."""
        self._numbers: dict[str, int] = {}
        self._count = self._first = np.empty(0, dtype=np.int64)
        self._ids = self._starts = self._ends = np.empty(0, dtype=np.int32)

    def _learn(self, words: list[str]) -> None:
        if len(self._ids) > _MOST_TOKENS:
            self.forget()
        new = [word for word in dict.fromkeys(words) if word not in self._numbers]
        self._numbers.update(zip(new, range(len(self._numbers), len(self._numbers) + len(new)), strict=True))
        found = list(encode_with_offsets(self._tokenizer, new))
        count = np.array([len(ids) for ids, _ in found], dtype=np.int64)
        offsets = np.array([pair for _, pairs in found for pair in pairs], dtype=np.int32).reshape(-1, 2)
        self._first = np.concatenate((self._first, len(self._ids) + np.cumsum(count) - count))
        self._count = np.concatenate((self._count, count))
        self._ids = np.concatenate((self._ids, np.array([i for ids, _ in found for i in ids], dtype=np.int32)))
        self._starts = np.concatenate((self._starts, offsets[:, 0]))
        self._ends = np.concatenate((self._ends, offsets[:, 1]))


def _any_of(tokens: list[dict[str, Any]]) -> re.Pattern[str] | None:
    """Return an expression that finds the leftmost and longest of added tokens, which are cut out of a text before its words."""
    contents = sorted((token["content"] for token in tokens), key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, contents))})") if contents else None
