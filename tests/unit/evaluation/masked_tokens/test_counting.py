"""The bigram baseline counts what it says: compared with counting by hand, and with text whose answer is certain."""

import itertools
from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from clinical_modernbert.evaluation.masked_tokens.counting import PREDICTORS, count_neighbours, neighbour_ranks
from clinical_modernbert.training.held_out import MaskedPositions

SIZE, MASK, PAD = 12, 11, 10


class Rows:
    """Rows of given ids; the last place of each is padding."""

    def __init__(self, ids_RL: Any) -> None:
        self.ids_RL = np.array(ids_RL, dtype=np.int64)

    def __len__(self) -> int:
        return len(self.ids_RL)

    def read(self, rows_R: Any) -> Any:
        ids = self.ids_RL[rows_R]
        return SimpleNamespace(ids_RL=ids, valid_RL=ids != PAD)


def hidden(labels: list[int], lefts: list[int], rights: list[int], sources: list[int]) -> MaskedPositions:
    none = np.zeros(len(labels), dtype=np.int64)
    return MaskedPositions(
        labels_N=np.array(labels),
        ranks_N=none,
        sources_N=np.array(sources),
        documents_N=none.astype(np.uint64),
        losses_N=none.astype(float),
        lefts_N=np.array(lefts),
        rights_N=np.array(rights),
    )


@pytest.fixture
def rows() -> Rows:
    ids = np.random.default_rng(0).integers(0, 8, size=(60, 9))
    ids[:, 1::2] = ids[:, :-1:2] // 2  # the even places say something of what follows
    return Rows(np.pad(ids, ((0, 0), (0, 1)), constant_values=PAD))


def by_hand(rows: Rows, frequency: list[float], left: int, right: int) -> dict[str, list[float]]:
    flat = [i for row in rows.ids_RL.tolist() for i in row if i != PAD]
    pairs, triples = Counter(itertools.pairwise(flat)), Counter(zip(flat, flat[1:], flat[2:], strict=False))

    def smooth(counts: list[int], simpler: list[float]) -> list[float]:
        seen, kinds = sum(counts), sum(count > 0 for count in counts)
        return [(c + kinds * s) / (seen + kinds) if seen else s for c, s in zip(counts, simpler, strict=True)]

    of_left = smooth([pairs[left, x] for x in range(SIZE)], frequency)
    of_right = smooth([pairs[x, right] for x in range(SIZE)], frequency)
    product = [a * b / f for a, b, f in zip(of_left, of_right, frequency, strict=True)]
    product = [p / sum(product) for p in product]
    both = smooth([triples[left, x, right] for x in range(SIZE)], product)
    return dict(zip(PREDICTORS, (of_left, of_right, both), strict=True))


def test_ranks_are_those_of_probabilities_counted_by_hand(rows: Rows) -> None:
    unigram = np.random.default_rng(1).integers(0, 50, size=(2, SIZE))
    draws = np.random.default_rng(2).integers(0, 9, size=(40, 3))
    draws[:5, 1], draws[5:10, 2] = MASK, MASK  # hidden neighbours: never counted, so unknown
    sources = [n % 2 for n in range(len(draws))]
    found = hidden(draws[:, 0].tolist(), draws[:, 1].tolist(), draws[:, 2].tolist(), sources)
    counts = count_neighbours(rows, vocabulary_size=SIZE, max_rows=1000)
    ranks = neighbour_ranks(found, counts, unigram=unigram)
    for n, (label, left, right) in enumerate(draws.tolist()):
        frequency = ((unigram[sources[n]] + 1) / (unigram[sources[n]] + 1).sum()).tolist()
        for name, chances in by_hand(rows, frequency, left, right).items():
            expected = sum(chance > chances[label] + 1e-12 for chance in chances)
            ties = sum(abs(chance - chances[label]) <= 1e-12 for chance in chances) - 1
            assert expected <= ranks[name][n] <= expected + ties, (n, name)


def test_each_side_is_used_where_it_decides() -> None:
    """1 and 2 stand before 5 and 6: what is between them is known from both sides only."""
    rows = Rows([[1, 3, 5, 1, 4, 6, 2, 4, 5, 2, 3, 6, 9, 9, 8, 7, PAD]])
    unigram = np.ones((1, SIZE), dtype=np.int64)
    counts = count_neighbours(rows, vocabulary_size=SIZE, max_rows=10)
    found = hidden([3, 4, 4, 3, 8], [1, 1, 2, 2, 9], [5, 6, 5, 6, MASK], [0] * 5)
    ranks = neighbour_ranks(found, counts, unigram=unigram)
    assert ranks["bigram_both"][:4].tolist() == [0] * 4
    assert (ranks["bigram_left"][:4] > 0).any() and (ranks["bigram_right"][:4] > 0).any()
    assert (
        ranks["bigram_left"][4] == 1 and ranks["bigram_both"][4] == 1
    )  # 9 is followed by 9 and by 8; the right is hidden


def test_an_unknown_neighbourhood_falls_back_to_the_source() -> None:
    counts = count_neighbours(Rows([[1, 2, 3, PAD]]), vocabulary_size=SIZE, max_rows=10)
    unigram = np.zeros((2, SIZE), dtype=np.int64)
    unigram[0, 7], unigram[1, 6] = 9, 9
    found = hidden([7, 7], [MASK, MASK], [MASK, MASK], [0, 1])
    for own_N in neighbour_ranks(found, counts, unigram=unigram).values():
        assert own_N[0] == 0 and own_N[1] > 0
