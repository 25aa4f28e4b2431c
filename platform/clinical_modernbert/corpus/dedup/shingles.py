"""Hashes of consecutive words, by which near-duplicate search and decontamination compare texts.

Words are runs of letters and digits in lower case, so that punctuation and line ends do not count. Hashes are 64-bit
and the same on every machine (rensa's word hash, mixed by multiplication), and an n-gram's depends on the order of its words.
"""

import re
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from rensa import RMinHash

from clinical_modernbert.hashing import combined

_WORD = re.compile(r"\w+")
DECONTAMINATION_WORDS = 13


def word_hashes(texts: list[str]) -> list[NDArray[np.uint64]]:
    """Return the hashes of each text's words, in order."""
    words = [_WORD.findall(text.lower()) for text in texts]
    return [np.array(row, dtype=np.uint64) for row in RMinHash.hash_token_sets(words)]


def ngram_hashes(words: NDArray[np.uint64], *, num_words: int) -> NDArray[np.uint64]:
    """Return one hash for each sequence of ``num_words`` words; empty where the text is shorter."""
    count = len(words) - num_words + 1
    if count <= 0:
        return np.empty(0, dtype=np.uint64)
    return combined((words[n : n + count] for n in range(num_words)), start=np.zeros(count, dtype=np.uint64))


def evaluation_ngrams(texts: Iterable[str]) -> NDArray[np.uint64]:
    """Return the sorted hashes of all 13-word sequences of evaluation texts; shorter texts have none."""
    hashes = [ngram_hashes(words, num_words=DECONTAMINATION_WORDS) for text in texts for words in word_hashes([text])]
    return np.unique(np.concatenate(hashes)) if hashes else np.empty(0, dtype=np.uint64)


def shared_ngrams(text: str, ngrams: NDArray[np.uint64]) -> NDArray[np.intp]:
    """Return the places in ``ngrams`` of the 13-word sequences that ``text`` has too."""
    if not len(ngrams):
        return np.empty(0, dtype=np.intp)
    of_text = ngram_hashes(word_hashes([text])[0], num_words=DECONTAMINATION_WORDS)
    at = np.searchsorted(ngrams, of_text)
    at[at == len(ngrams)] = 0
    return at[ngrams[at] == of_text]
