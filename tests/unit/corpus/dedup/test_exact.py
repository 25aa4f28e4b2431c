"""The latest version of a document wins, notices delete, and no pass looks at what an earlier one dropped."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import piece_files
from clinical_modernbert.corpus.dedup.exact import (
    find_duplicates,
    find_near_duplicates,
    join_tables,
    kept_rows,
    merge_drops,
    piece_drops,
    resolve_versions,
)
from clinical_modernbert.corpus.dedup.minhash import BAND
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.piece_files import HASH, KEY, NO_ROW, Piece, PieceId
from clinical_modernbert.corpus.results import Partitions
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units

PIECES = [PieceId(0, n) for n in range(3)]


def area_with(tmp_path: Path, units: list[list[tuple[int, ...]]]) -> WorkArea:
    area = WorkArea(f"file://{tmp_path}", "work")
    for number, rows in enumerate(units):  # all pieces of one unit
        table = np.array([(*row, number) for row in rows], dtype=KEY)
        area.put_array(table[np.argsort(table["key"], kind="stable")], f"keys/{number:09d}.npy")
    return area


def drops(area: WorkArea, pieces: list[PieceId], *, number: int) -> list[dict[str, int]]:
    join_tables(area, pieces=pieces, group=0, num_partitions={"keys": number})
    for n in range(number):
        names = [f"keys/{n:04d}/0000.npy"] if number > 1 else [f"keys/{piece}.npy" for piece in pieces]
        resolve_versions(area, names=names, partition=n)
    return [piece_drops(area, piece=piece, partitions=Partitions(versions=number)) for piece in pieces]


def test_version_then_order_decide_and_notices_delete_what_came_before(tmp_path: Path) -> None:
    high = 1 << 63
    units = [
        # key, order, version, place, row, deleted
        [(1, 1, 1, 1, 0, 0), (1, 1, 2, 2, 1, 0), (2, 1, 1, 3, 2, 0), (high, 1, 1, 4, 3, 0), (5, 1, 1, 5, 4, 0)],
        [(2, 2, 1, 1, 0, 0), (high, 2, 0, 2, NO_ROW, 1), (5, 2, 2, 3, NO_ROW, 0), (6, 2, 0, 4, NO_ROW, 1)],
        # Of one version: a citation with another abstract (7), and a citation that stands twice (8).
        [(high, 3, 1, 1, 0, 0), (7, 3, 1, 2, 1, 0), (7, 3, 1, 2, 2, 0), (8, 3, 1, 3, 3, 0), (8, 3, 1, 4, 4, 0)],
    ]
    area = area_with(tmp_path, units)
    assert drops(area, PIECES, number=3) == [{"superseded": 4}, {}, {"superseded": 1}]
    kept = kept_rows(area, piece=Piece(PIECES[0], "pubmed", 5), partitions=Partitions(versions=3))
    assert kept.tolist() == [
        False,
        True,
        False,
        False,
        False,
    ]


def test_a_deleted_document_is_counted_as_deleted(tmp_path: Path) -> None:
    area = area_with(tmp_path, [[(9, 1, 1, 1, 0, 0), (9, 1, 2, 2, 1, 0)], [(9, 2, 0, 1, NO_ROW, 1)]])
    assert drops(area, PIECES[:2], number=1) == [{"superseded": 1, "deleted": 1}, {}]


@pytest.mark.parametrize(
    ("later", "kept", "dropped"),
    [
        ((9, 3, 1, 1, 0, 0), [False, True, False], {"superseded": 2}),  # version 1 is issued again
        ((9, 3, 1, 1, NO_ROW, 1), [False, True], {"superseded": 1}),  # version 1 is deleted
        ((9, 3, 2, 1, NO_ROW, 1), [True, False], {"deleted": 1}),  # version 2 is deleted
        ((9, 3, 0, 1, NO_ROW, 1), [False, False], {"superseded": 1, "deleted": 1}),  # all are
        ((9, 3, 3, 1, NO_ROW, 0), [False, False], {"superseded": 2}),  # version 3 is dropped by a rule
    ],
)
def test_a_version_outranks_the_file_that_brings_it(
    tmp_path: Path, later: tuple[int, ...], kept: list[bool], dropped: dict[str, int]
) -> None:
    area = area_with(tmp_path, [[(9, 1, 1, 1, 0, 0), (9, 2, 2, 2, 1, 0)], [later]])
    counts = sum(map(Counter, drops(area, PIECES[:2], number=1)), Counter())
    rows = [
        kept_rows(area, piece=Piece(piece, "pubmed", size), partitions=Partitions(versions=1)).tolist()
        for piece, size in zip(PIECES, (2, len(kept) - 2), strict=False)
    ]
    assert ([*rows[0], *rows[1]], counts) == (kept, dropped)


def test_the_text_of_a_superseded_version_drops_no_other_document(tmp_path: Path) -> None:
    area = area_with(tmp_path, [[(1, 1, 1, 1, 0, 0)], [(1, 2, 1, 1, 0, 0), (2, 2, 1, 2, 1, 0), (3, 2, 1, 3, 2, 0)]])
    area.put_array(np.array([(7, 7, 0, 0)], dtype=HASH), "hashes/000000000.npy")
    area.put_array(np.array([(7, 7, 1, 1), (7, 7, 1, 2), (8, 8, 1, 0)], dtype=HASH), "hashes/000000001.npy")
    drops(area, PIECES[:2], number=1)
    names = [f"hashes/{piece}.npy" for piece in PIECES[:2]]
    find_duplicates(area, names=names, partition=0, earlier=Partitions(versions=1))
    done = Partitions(versions=1, duplicates=1)
    assert piece_drops(area, piece=PIECES[0], partitions=done) == {"superseded": 1}
    assert kept_rows(area, piece=Piece(PIECES[1], "pubmed", 3), partitions=done).tolist() == [True, True, False]


ARTICLE = (
    "<PubmedArticle><MedlineCitation><PMID Version='1'>{pmid}</PMID><Article><ArticleTitle>A title.</ArticleTitle>{abstract}"
    "<Language>fre</Language></Article>{other}</MedlineCitation></PubmedArticle>"
)
ABSTRACT = "<Abstract><AbstractText>Aspirin was given to {pmid} and helped.</AbstractText></Abstract>"
OTHER = "<OtherAbstract Language='fre'><AbstractText>Aspirine pour {pmid}, et voila.</AbstractText></OtherAbstract>"


@pytest.mark.parametrize("most", [piece_files.PIECE_DOCUMENTS, 3])
def test_a_revision_that_a_rule_drops_and_a_deletion_take_the_whole_earlier_citation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(piece_files, "PIECE_DOCUMENTS", most)
    baseline = [
        ARTICLE.format(pmid=n, abstract=ABSTRACT.format(pmid=n), other=OTHER.format(pmid=n)) for n in (1, 2, 3, 4)
    ]
    update = [
        ARTICLE.format(pmid=1, abstract="", other=""),  # its abstract was removed
        "<DeleteCitation><PMID>2</PMID></DeleteCitation>",
        ARTICLE.format(pmid=3, abstract=ABSTRACT.format(pmid="3 anew"), other=""),
    ]
    raw = tmp_path / "raw"
    raw.mkdir()
    for name, articles in (("pubmed26n0001.xml", baseline), ("pubmed26n1301.xml", update)):
        (raw / name).write_text(f"<PubmedArticleSet>{''.join(articles)}</PubmedArticleSet>")
    source = {"type": "pubmed", "name": "pubmed", "path": str(raw), "other_languages": ["fre"]}
    recipe = build_recipe(CorpusRecipe, {"kind": "corpus", "name": "t", "sources": [source]}, origin="test")
    area = WorkArea(f"file://{tmp_path / 'store'}", "work")
    steps = [parse_unit(area, recipe, unit, number=n) for n, unit in enumerate(list_units(recipe.sources[0]))]
    # A citation's abstracts stay together: the fourth document belongs to the third.
    sizes = [step.pieces for step in steps]
    assert sizes == ([(4, 4), (1,)] if most == 3 else [(8,), (1,)])
    assert steps[1].dropped == {"no_abstract": 1, "deletion_notice": 1}
    # 1 and 3 with their French abstracts give way, 2 goes with its own, 4 stays.
    pieces = [PieceId(unit, n) for unit, found in enumerate(sizes) for n in range(len(found))]
    assert sum(map(Counter, drops(area, pieces, number=2)), Counter()) == {"superseded": 4, "deleted": 2}
    kept = [
        kept_rows(area, piece=Piece(piece, "pubmed", 8 // len(sizes[0])), partitions=Partitions(versions=2))
        for piece in pieces[:-1]
    ]
    assert np.concatenate(kept).tolist() == [False] * 6 + [True] * 2


def test_joined_bands_are_those_of_the_pieces_and_merged_drops_those_of_all_passes(tmp_path: Path) -> None:
    area, rng = WorkArea(f"file://{tmp_path}", "work"), np.random.default_rng(0)
    pieces = [PieceId(0, n) for n in range(5)]
    bands = np.zeros(200, dtype=BAND)
    bands["hash"], bands["piece"], bands["row"] = (
        rng.integers(40, size=200),
        np.repeat(range(5), 40),
        np.tile(range(40), 5),
    )
    for piece in pieces:
        own = bands[bands["piece"] == piece.index]
        area.put_array(own[np.argsort(own["hash"] % np.uint64(3), kind="stable")], f"bands/{piece}.npy")
    for group in range(2):
        join_tables(area, pieces=pieces[group::2], group=group, num_partitions={"bands": 3})
    one = find_near_duplicates(area, names=[f"bands/{p}.npy" for p in pieces], partition=9, earlier=Partitions())
    expected = np.load(tmp_path / "work/drops/near-0009.npy")
    for n in range(3):
        names = [f"bands/{n:04d}/{group:04d}.npy" for group in range(2)]
        joined = np.concatenate([area.get_array(name, tmp_path) for name in names])
        assert set((joined["hash"] % np.uint64(3)).tolist()) == {n}
        find_near_duplicates(area, names=names, partition=n, earlier=Partitions())
    merge_drops(area, partitions=Partitions(near=3))
    merged = area.get_array("drops/merged-0000.npy", tmp_path)
    found = {(int(d["piece"]), int(d["row"])) for d in merged}
    assert found == {(int(d["piece"]), int(d["row"])) for d in expected} and one.dropped == len(found) > 100
    kept = kept_rows(area, piece=Piece(pieces[1], "t", 40), partitions=Partitions(merged=1))
    assert {(1, int(row)) for row in np.flatnonzero(~kept)} == {place for place in found if place[0] == 1}
