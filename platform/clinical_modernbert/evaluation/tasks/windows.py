"""Examples to token ids: texts cut to the model's limit, documents of words in windows beyond it.

A word is represented by its first token, the usual convention. In a document longer than the limit each word is judged once: in
the window in which it lies farthest from a border.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from clinical_modernbert.evaluation.tasks.examples import WordExample

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of a document as the model reads it."""

    example: int
    """Number of the example."""
    ids: list[int]
    """Tokens, [CLS] and [SEP] included."""
    words: list[int]
    """Words that are judged here."""
    positions: list[int]
    """Place of the first token of each of them in ``ids``."""


def encode_texts(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str], *, max_tokens: int
) -> tuple[list[list[int]], int]:
    """Return ids with [CLS] and [SEP], and how many texts were cut to ``max_tokens``."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    room, cut, encoded = max_tokens - 2, 0, []
    for encoding in backend.encode_batch(list(texts), add_special_tokens=False):
        cut += len(encoding.ids) > room
        encoded.append([tokenizer.cls_token_id, *encoding.ids[:room], tokenizer.sep_token_id])
    return encoded, cut


def encode_words(
    tokenizer: "PreTrainedTokenizerFast", examples: Sequence[WordExample], *, max_tokens: int, stride: float
) -> list[Window]:
    """Return the windows of all examples; words without a token of their own (or any) are in none."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    windows: list[Window] = []
    room = max_tokens - 2
    for number, encoding in enumerate(backend.encode_batch([e.text for e in examples], add_special_tokens=False)):
        firsts = first_tokens(encoding.offsets, examples[number].words)
        starts = window_starts(len(encoding.ids), room, stride)
        owner = _owners(firsts, starts, room, len(encoding.ids))
        for place, start in enumerate(starts):
            words = [word for word in range(len(firsts)) if owner[word] == place]
            ids = [tokenizer.cls_token_id, *encoding.ids[start : start + room], tokenizer.sep_token_id]
            windows.append(Window(number, ids, words, [firsts[word] - start + 1 for word in words]))
    return windows


def first_tokens(offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first token that touches each word; -1 where none does, or where an earlier word has it already."""
    found, token, taken = [], 0, -1
    for start, end in words:
        while token < len(offsets) and (offsets[token][1] <= start or offsets[token][0] == offsets[token][1]):
            token += 1
        touches = token < len(offsets) and offsets[token][0] < end and token != taken
        found.append(token if touches else -1)
        taken = token if touches else taken
    return found


def window_starts(num_tokens: int, room: int, stride: float) -> list[int]:
    """Return where windows of ``room`` tokens begin, so that they cover all; the last one ends with the document."""
    if num_tokens <= room:
        return [0]
    step = max(round(room * stride), 1)
    return [*range(0, num_tokens - room, step), num_tokens - room]


def _owners(firsts: Sequence[int], starts: Sequence[int], room: int, num_tokens: int) -> list[int]:
    """Return the window that judges each word; -1 for a word without a token."""
    firsts_W, starts_S = np.asarray(firsts)[:, None], np.asarray(starts)[None, :]
    # The document's own ends are no borders: nothing was cut off there.
    left = np.where(starts_S == 0, num_tokens, firsts_W - starts_S)
    right = np.where(starts_S + room >= num_tokens, num_tokens, starts_S + room - 1 - firsts_W)
    inside = (firsts_W >= starts_S) & (firsts_W < starts_S + room)
    distance = np.where(inside, np.minimum(left, right), -1)
    best: list[int] = np.where(firsts_W[:, 0] < 0, -1, distance.argmax(axis=1)).tolist()
    return best


def complete_tags(tags: Sequence[str | None]) -> list[str]:
    """Give words that share a token with the word before its entity's tag, and words that no token touches O."""
    completed: list[str] = []
    for tag in tags:
        if tag is not None:
            completed.append(tag)
        elif completed and completed[-1] != "O":
            completed.append(f"I-{completed[-1][2:]}")
        else:
            completed.append("O")
    return completed
