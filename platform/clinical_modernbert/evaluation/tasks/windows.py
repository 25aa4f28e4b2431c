"""Convert examples to token ids: texts and pairs are cut at the model's limit, documents of words are read in windows.

A word is represented by its first token, the usual convention. In a document longer than the limit each word is judged once: in
the window in which it is farthest from a border. With 30 tokens of room and a stride of 0.5, a document of 100 tokens has windows
that start at 0, 15, 30, 45, 60 and 70; token 40 is judged in the window at 30, which reaches to 60.
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
    """A range of a document's tokens, as the model reads it."""

    example: int
    """Number of the example."""
    ids: list[int]
    """Tokens, [CLS] and [SEP] included."""
    words: list[int]
    """Numbers of the words that are judged in this window."""
    positions: list[int]
    """Position in ``ids`` of the first token of each of these words."""


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


def encode_examples(
    tokenizer: "PreTrainedTokenizerFast", texts: Sequence[str | tuple[str, str]], *, max_tokens: int, joint: bool
) -> tuple[list[tuple[list[int], list[int]]], int]:
    """Return (ids, ids of a second text, or none) of texts or pairs, and how many were cut.

    ``joint`` puts both texts of a pair into the first ids, as a model reads them that is fine-tuned.
    """
    pairs = [text for text in texts if not isinstance(text, str)]
    if not pairs:
        found, cut = encode_texts(tokenizer, [text for text in texts if isinstance(text, str)], max_tokens=max_tokens)
        return [(ids, []) for ids in found], cut
    assert len(pairs) == len(texts), "a task has texts or pairs"
    if joint:
        found, cut = encode_pairs(tokenizer, pairs, max_tokens=max_tokens)
        return [(ids, []) for ids in found], cut
    (first, cut_first), (second, cut_second) = (
        encode_texts(tokenizer, [pair[side] for pair in pairs], max_tokens=max_tokens) for side in (0, 1)
    )
    return list(zip(first, second, strict=True)), cut_first + cut_second


def encode_pairs(
    tokenizer: "PreTrainedTokenizerFast", pairs: Sequence[tuple[str, str]], *, max_tokens: int
) -> tuple[list[list[int]], int]:
    """Return ``[CLS] first [SEP] second [SEP]`` of each pair, and how many pairs were cut to ``max_tokens``.

    The longer text of a pair is cut first. No segment ids are made: ModernBERT has none, and others learn without them.
    """
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    first, second = (
        [found.ids for found in backend.encode_batch([pair[side] for pair in pairs], add_special_tokens=False)]
        for side in (0, 1)
    )
    room, cut, encoded = max_tokens - 3, 0, []
    for a, b in zip(first, second, strict=True):
        cut += len(a) + len(b) > room
        kept_a, kept_b = _kept(len(a), len(b), room)
        ids = [tokenizer.cls_token_id, *a[:kept_a], tokenizer.sep_token_id]
        encoded.append([*ids, *b[:kept_b], tokenizer.sep_token_id])
    return encoded, cut


def _kept(first: int, second: int, room: int) -> tuple[int, int]:
    """Return how many tokens of each text are kept: 10 and 2 tokens with room for 8 keep 6 and 2; 10 and 6 keep 4 and 4."""
    if first + second <= room:
        return first, second
    half = room // 2
    if first <= half:
        return first, room - first
    return (room - second, second) if second <= half else (room - half, half)


def encode_words(
    tokenizer: "PreTrainedTokenizerFast", examples: Sequence[WordExample], *, max_tokens: int, stride: float
) -> list[Window]:
    """Return the windows of all examples. Words that have no token, or share one with the word before, are in none."""
    backend = tokenizer.backend_tokenizer
    backend.no_truncation()
    backend.no_padding()
    windows: list[Window] = []
    room = max_tokens - 2
    for number, encoding in enumerate(backend.encode_batch([e.text for e in examples], add_special_tokens=False)):
        firsts = first_tokens(encoding.offsets, examples[number].words)
        starts = window_starts(len(encoding.ids), room, stride)
        window_of_word = _judging_windows(firsts, starts, room, len(encoding.ids))
        for place, start in enumerate(starts):
            words = [word for word in range(len(firsts)) if window_of_word[word] == place]
            ids = [tokenizer.cls_token_id, *encoding.ids[start : start + room], tokenizer.sep_token_id]
            windows.append(Window(number, ids, words, [firsts[word] - start + 1 for word in words]))
    return windows


def first_tokens(offsets: Sequence[tuple[int, int]], words: Sequence[tuple[int, int]]) -> list[int]:
    """Return the first token that touches each word; -1 if none does, or if an earlier word has it already."""
    firsts, token, previous = [], 0, -1
    for start, end in words:
        # Skip tokens that end before the word, and empty ones.
        while token < len(offsets) and (offsets[token][1] <= start or offsets[token][0] == offsets[token][1]):
            token += 1
        touches = token < len(offsets) and offsets[token][0] < end and token != previous
        firsts.append(token if touches else -1)
        previous = token if touches else previous
    return firsts


def window_starts(num_tokens: int, room: int, stride: float) -> list[int]:
    """Return the starts of windows of ``room`` tokens that cover the document; the last one ends where the document ends."""
    if num_tokens <= room:
        return [0]
    step = max(round(room * stride), 1)
    return [*range(0, num_tokens - room, step), num_tokens - room]


def _judging_windows(firsts: Sequence[int], starts: Sequence[int], room: int, num_tokens: int) -> list[int]:
    """Return the window that judges each word; -1 for a word without a token."""
    firsts_W, starts_S = np.asarray(firsts)[:, None], np.asarray(starts)[None, :]
    # Distance [W, S] to the nearer border. The ends of the document are not borders: nothing is cut off there.
    left = np.where(starts_S == 0, num_tokens, firsts_W - starts_S)
    right = np.where(starts_S + room >= num_tokens, num_tokens, starts_S + room - 1 - firsts_W)
    inside = (firsts_W >= starts_S) & (firsts_W < starts_S + room)
    distance = np.where(inside, np.minimum(left, right), -1)
    best: list[int] = np.where(firsts_W[:, 0] < 0, -1, distance.argmax(axis=1)).tolist()
    return best


def complete_tags(tags: Sequence[str | None]) -> list[str]:
    """Replace None: a word without a token of its own continues the entity of the word before, if there is one."""
    completed: list[str] = []
    for tag in tags:
        if tag is not None:
            completed.append(tag)
        elif completed and completed[-1] != "O":
            completed.append(f"I-{completed[-1][2:]}")
        else:
            completed.append("O")
    return completed
