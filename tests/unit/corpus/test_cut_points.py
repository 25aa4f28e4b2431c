"""Cuts fall at sentence and section ends, never inside a clinical term, and nothing is lost."""

import re

import numpy as np
from clinical_modernbert.corpus.cut_points import NO_END, SECTION_END, SENTENCE_END, WORD_END, token_ends
from clinical_modernbert.corpus.encoding import Encoded
from numpy.typing import NDArray


def ends_of(texts: list[str], spans: list[tuple[int, int]]) -> tuple[Encoded, NDArray[np.uint8]]:
    offsets, lengths, base = [], [], 0
    for text in texts:
        found = [(base + m.start(), base + m.end()) for m in re.finditer(r" ?\w+|[^\w ]", text)]
        offsets += found
        lengths.append(len(found))
        base += len(text)
    starts, ends = np.array(offsets).T
    encoded = Encoded(ids_N=np.zeros(len(starts), np.int32), starts_N=starts, ends_N=ends, lengths_D=np.array(lengths))
    return encoded, token_ends(texts, encoded, np.array(spans, dtype=np.int64).reshape(-1, 2))


def ended(text: str, level: int) -> list[str]:
    encoded, ends = ends_of([text], [])
    return [text[: encoded.ends_N[n]][-9:] for n in np.flatnonzero(ends >= level)]


def test_sentences_but_not_abbreviations_or_decimals() -> None:
    text = "Dr. Lee gave 2.5 mg. He slept well.\nNo. 4 improved"
    assert [end[-4:] for end in ended(text, SENTENCE_END)] == [" mg.", "ell.", "ll.\n", "oved"]


def test_no_cut_inside_a_term() -> None:
    text = "had acute myocardial infarction then"
    start = text.index("myocardial")
    span = (start, text.index(" then"))
    _, ends = ends_of([text], [span])
    assert ends.tolist() == [1, 1, 0, 1, 3]


def test_texts_of_a_batch_do_not_touch_each_other() -> None:
    texts = ["One dose. Two", "", "Dr", "Lee said\n\nno. Then"]
    alone = np.concatenate([ends_of([text], [])[1] for text in texts if text])
    encoded, together = ends_of(texts, [])
    assert together.tolist() == alone.tolist()
    assert (together[np.cumsum(encoded.lengths_D)[[0, 2, 3]] - 1] == SECTION_END).all()


def test_the_example_of_the_modules_docstring() -> None:
    tokens = ["No", " chest", " pain", ".", " Given", " aspirin", "."]
    ends_N = np.cumsum([len(token) for token in tokens])
    starts_N = ends_N - [len(token) for token in tokens]
    encoded = Encoded(np.zeros(7, np.int32), starts_N, ends_N, np.array([7]))
    found = token_ends(["".join(tokens)], encoded, np.array([[3, 13]]))
    assert found.tolist() == [WORD_END, NO_END, NO_END, SENTENCE_END, WORD_END, NO_END, SECTION_END]
