"""Near duplicates: planted pairs are found, others left; decontamination finds thirteen words in a row."""

import numpy as np
from clinical_modernbert.corpus.near import band_records, resembling
from clinical_modernbert.corpus.shingles import evaluation_ngrams, is_contaminated

_SHINGLE = 5


def texts_and_pairs(num: int, *, num_changed: int, length: int = 300) -> list[str]:
    """Random texts, and each of them again with ``num_changed`` words replaced far apart."""
    rng = np.random.default_rng(3)
    first = [[f"w{n}" for n in rng.integers(20_000, size=length)] for _ in range(num)]
    second = []
    for words in first:
        copy = list(words)
        for place in np.linspace(10, length - 10, num_changed).astype(int):
            copy[place] = f"x{rng.integers(10**9)}"
        second.append(copy)
    return [" ".join(words) for words in first + second]


def jaccard(one: str, other: str) -> float:
    sets = [{tuple(w[i : i + _SHINGLE]) for i in range(len(w) - _SHINGLE + 1)} for w in (one.split(), other.split())]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def found_rows(texts: list[str], *, min_words: int = 50) -> set[int]:
    records = band_records(texts, np.arange(len(texts)), unit=0, min_words=min_words)
    return set(resembling(records)["row"].tolist())


def test_recall_of_planted_pairs_at_jaccard_of_four_fifths_and_above() -> None:
    found = total = 0
    for num_changed in (2, 4, 6):
        texts = texts_and_pairs(200, num_changed=num_changed)
        assert jaccard(texts[0], texts[200]) >= 0.8
        rows = found_rows(texts)
        assert not rows & set(range(200))
        found, total = found + len(rows), total + 200
    assert found / total >= 0.95


def test_pairs_at_one_half_stay() -> None:
    texts = texts_and_pairs(200, num_changed=20)
    assert 0.4 < jaccard(texts[0], texts[200]) < 0.6
    assert len(found_rows(texts)) <= 4


def test_short_texts_are_left_to_exact_comparison() -> None:
    assert found_rows(["ICD 10 code for S52.501A: Unspecified fracture of the lower end of right radius"] * 2) == set()


def test_thirteen_words_in_a_row_contaminate_and_twelve_do_not() -> None:
    words = [f"word{n}" for n in range(40)]
    table = evaluation_ngrams([" ".join(words), "too short to count"])
    assert is_contaminated("Before, " + ", ".join(words[5:18]).upper() + "; after", table)
    assert not is_contaminated("before " + " ".join(words[5:17]) + " after", table)
    assert not is_contaminated("too short to count", table)
