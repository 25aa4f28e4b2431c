"""Texts to token ids and offsets through a table of words: the output of the tokenizers library, several times as fast.

Byte-level BPE splits a text into words by one expression and merges within each word only, so a word has the same tokens
in every text. The library encodes each new word once; the table answers for the text. Words of abstracts and notes repeat:
after some thousand texts one word in a hundred is new. With the words ``took`` (1 token) and `` warfarin`` (3 tokens):

    text     "took warfarin took"
    words    took   _warfarin   _took            split by _ASCII_WORD, the space belongs to the word after it
    numbers  0      1           2                from the table; a new word is encoded by the library first
    ids      [t]    [w1 w2 w3]  [t']             copied from the table's flat arrays
    offsets  0-4    4-8 8-10..  13-18            the word's own offsets + the characters before the word

Texts that break this assumption are encoded by the library as a whole: other pre-tokenizers, text that is not NFC, and scripts
whose letter sets differ between Unicode versions.
"""

import json
import re
import unicodedata
from collections.abc import Iterable
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
UNUSUAL = re.compile("[^\0-\x1b\x20-\x84\x86-\u052f\u1e00-\u208e\u2090-\u209c\u20a0-\u2bff]")
# Tokens in the table, about 100 MB with its words; beyond that it is emptied.
_MOST_TOKENS = 2_000_000


@dataclass(frozen=True, slots=True)
class Encoded:
    """A batch of texts as flat arrays; offsets are positions in the texts joined without separator."""

    ids_N: NDArray[np.int32]
    starts_N: NDArray[np.signedinteger[Any]]
    ends_N: NDArray[np.signedinteger[Any]]
    lengths_D: NDArray[np.int64]
    """Tokens of each text."""


class WordEncoder:
    """Encodes without [CLS] and [SEP]; keeps the tokens of every word that it encoded.

    Legend: N tokens of the batch, W words of the batch, D texts.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast, *, most_tokens: int = _MOST_TOKENS) -> None:
        self._tokenizer, self._most_tokens = tokenizer, most_tokens
        state: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
        split, normalizer = state["pre_tokenizer"] or {}, state["normalizer"] or {"type": "NFC"}
        self._by_words = (
            split.get("type") == "ByteLevel"
            and split.get("use_regex", True)
            and not split.get("add_prefix_space")
            and normalizer["type"] == "NFC"
        )
        # Some added tokens take the blanks around them, or match whole words only: texts with those go to the library.
        added = {token["content"]: token for token in state["added_tokens"]}
        greedy = [text for text, token in added.items() if token["lstrip"] or token["rstrip"] or token["single_word"]]
        self._greedy = _any_of(greedy)
        self._added = _any_of([text for text in added if text not in greedy])
        self.forget()

    def encode(self, texts: list[str]) -> Encoded:
        """Return the tokens of ``texts``, in their order."""
        # 1. Split every text into words.
        words: list[str] = []
        counts = []
        for text in texts:
            of_text = self.split(text)
            words += of_text
            counts.append(len(of_text))
        # 2. Look up each word's number; new words are encoded and added to the table.
        numbers_W = self._numbers_of(words)
        # 3. Word w has tokens_W[w] tokens, which begin at _first[number] in the table. at_N is the place of every token of the
        #    batch in the table: its word's first place, and one more for each token of the word before it.
        sizes_W = np.fromiter(map(len, words), dtype=np.int64, count=len(words))
        tokens_W = self._count[numbers_W]
        sums = np.concatenate(([0], np.cumsum(tokens_W)))
        at_N = np.repeat(self._first[numbers_W] - sums[:-1], tokens_W) + np.arange(sums[-1])
        # 4. from_N is the position of each token's word in the joined texts.
        from_N = np.repeat(np.cumsum(sizes_W) - sizes_W, tokens_W)
        return Encoded(
            ids_N=self._ids[at_N],
            starts_N=from_N + self._starts[at_N],
            ends_N=from_N + self._ends[at_N],
            lengths_D=np.diff(sums[np.cumsum([0, *counts])]),
        )

    def split(self, text: str) -> list[str]:
        """Return the words within which the tokenizer merges; the whole text as one where only the library can tell."""
        if not self._by_words or UNUSUAL.search(text) or (self._greedy and self._greedy.search(text)):
            return [text]
        if text.isascii():
            pattern: Any = _ASCII_WORD
        elif unicodedata.is_normalized("NFC", text):
            pattern = _WORD
        else:
            return [text]
        if not (self._added and self._added.search(text)):
            return list(pattern.findall(text))
        # Added tokens are cut out first; they are every second stretch. Some base tokenizers add runs of blanks, so most notes
        # hold some.
        stretches = self._added.split(text)
        return [
            word for n, stretch in enumerate(stretches) for word in ([stretch] if n % 2 else pattern.findall(stretch))
        ]

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
        if len(self._ids) > self._most_tokens:
            self.forget()
        new = [word for word in dict.fromkeys(words) if word not in self._numbers]
        self._numbers.update(zip(new, range(len(self._numbers), len(self._numbers) + len(new)), strict=True))
        encoded = list(encode_with_offsets(self._tokenizer, new))
        count = np.array([len(ids) for ids, _ in encoded], dtype=np.int64)
        offsets = np.array([pair for _, pairs in encoded for pair in pairs], dtype=np.int32).reshape(-1, 2)
        self._first = np.concatenate((self._first, len(self._ids) + np.cumsum(count) - count))
        self._count = np.concatenate((self._count, count))
        self._ids = np.concatenate((self._ids, np.array([i for ids, _ in encoded for i in ids], dtype=np.int32)))
        self._starts = np.concatenate((self._starts, offsets[:, 0]))
        self._ends = np.concatenate((self._ends, offsets[:, 1]))


def _any_of(tokens: Iterable[str]) -> re.Pattern[str] | None:
    """Return an expression that finds added tokens, the longest first as in the library; None where there are none."""
    contents = sorted(tokens, key=len, reverse=True)
    return re.compile(f"({'|'.join(map(re.escape, contents))})") if contents else None
