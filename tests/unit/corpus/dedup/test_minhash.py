"""Near duplicates: planted pairs are found, others left; decontamination finds thirteen words in a row."""

import numpy as np
from clinical_modernbert.corpus.dedup.minhash import BAND, band_records, resembling
from clinical_modernbert.corpus.dedup.shingles import evaluation_ngrams, shared_ngrams

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
    records = band_records(texts, np.arange(len(texts)), piece=0, min_words=min_words)
    return set(resembling(records)[0]["row"].tolist())


def test_recall_of_planted_pairs_at_jaccard_of_four_fifths_and_above() -> None:
    found = total = 0
    for num_changed in (2, 4, 6):
        texts = texts_and_pairs(200, num_changed=num_changed)
        assert jaccard(texts[0], texts[200]) >= 0.8
        rows = found_rows(texts)
        assert not rows & set(range(200))
        found, total = found + len(rows), total + 200
    assert found / total >= 0.95


def test_a_chain_goes_with_its_first_in_whatever_bands_its_links_meet() -> None:
    """B resembles A, and C resembles B but not A: C goes too, although B is dropped, in every order of the bands."""
    rng = np.random.default_rng(0)
    words = [f"w{n}" for n in range(400)]
    chains = []
    for chain in range(60):
        first = [f"{word}c{chain}" for word in words]
        second = list(first)
        second[5:30] = [f"x{rng.integers(10**9)}" for _ in range(25)]
        third = list(second)
        third[370:395] = [f"y{rng.integers(10**9)}" for _ in range(25)]
        chains += [" ".join(text) for text in (first, second, third)]
    assert jaccard(chains[0], chains[1]) > 0.85 > 0.79 > jaccard(chains[0], chains[2])
    rows = found_rows(chains)
    assert not any(3 * n in rows for n in range(60))
    assert sum(3 * n + 2 in rows for n in range(60)) >= 0.95 * 60


def test_within_one_band_what_is_dropped_still_drops_what_comes_after_it() -> None:
    records = np.zeros(3, dtype=BAND)
    records["row"] = range(3)
    bits = np.zeros((3, 160), dtype=bool)
    bits[1, 10:30] = bits[2, 10:50] = True  # 20 of 152 bits differ from one to the next, 40 from the first to the third
    records["bits"] = np.packbits(bits, axis=1)
    assert resembling(records)[0]["row"].tolist() == [1, 2]
    assert resembling(records[[0, 2]])[0]["row"].tolist() == []


def test_a_bucket_beyond_the_limit_is_compared_in_parts_and_counted() -> None:
    records = np.zeros(10, dtype=BAND)
    records["row"] = range(10)
    records["hash"][7:] = 9
    alike, unchecked = resembling(records, most=3)
    # 0-2, 3-5 and 6 are compared among themselves, then the bucket 7-9.
    assert alike["row"].tolist() == [1, 2, 4, 5, 8, 9] and unchecked == 4
    assert resembling(records)[1] == 0


def test_pairs_at_one_half_stay() -> None:
    texts = texts_and_pairs(200, num_changed=20)
    assert 0.4 < jaccard(texts[0], texts[200]) < 0.6
    assert len(found_rows(texts)) <= 4


def test_short_texts_are_left_to_exact_comparison() -> None:
    assert found_rows(["ICD 10 code for S52.501A: Unspecified fracture of the lower end of right radius"] * 2) == set()


def test_thirteen_words_in_a_row_contaminate_and_twelve_do_not() -> None:
    words = [f"word{n}" for n in range(40)]
    table = evaluation_ngrams([" ".join(words), "too short to count"])
    assert len(shared_ngrams("Before, " + ", ".join(words[5:18]).upper() + "; after", table)) == 1
    assert not len(shared_ngrams("before " + " ".join(words[5:17]) + " after", table))
    assert not len(shared_ngrams("too short to count", table))
