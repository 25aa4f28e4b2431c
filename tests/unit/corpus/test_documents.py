"""Parsing a unit and exact duplicates: every record has its place in the account, the first document of a text stays."""

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus import is_held_out, piece_files
from clinical_modernbert.corpus.dedup.exact import find_duplicates, join_tables, kept_rows, resolve_versions
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.piece_files import HASH, Piece, PieceId
from clinical_modernbert.corpus.results import Dropped, Parsed, Partitions, QuarantineEntry
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units, read_unit

UNITS = [PieceId(0, 0), PieceId(1, 0)]
NOTES = {"a": "The patient took warfarin daily.", "b": "x", "c": "No acute distress was seen today."}


@pytest.fixture
def area(tmp_path: Path) -> WorkArea:
    return WorkArea(f"file://{tmp_path / 'store'}", "work/corpus/test")


def recipe_of(folder: Path, notes: dict[str, dict[str, str]]) -> CorpusRecipe:
    """One CSV source a file: ``notes`` is name -> id -> text."""
    sources = []
    for name, rows in notes.items():
        path = folder / f"{name}.csv"
        path.write_text("id,text\n" + "".join(f'{key},"{text}"\n' for key, text in rows.items()))
        sources.append(
            {"type": "table", "name": name, "path": str(path), "text_column": "text", "id_column": "id"},
        )
    values = {"kind": "corpus", "name": "t", "sources": sources, "held_out": {"fraction": 0.4}}
    return build_recipe(CorpusRecipe, values, origin="test")


def parse_all(area: WorkArea, recipe: CorpusRecipe) -> list[Parsed]:
    units = [unit for source in recipe.sources for unit in list_units(source)]
    return [parse_unit(area, recipe, unit, number=number) for number, unit in enumerate(units)]


def duplicates(area: WorkArea, pieces: list[PieceId], number: int) -> list[int]:
    """Run the pass over exact duplicates and return what each partition dropped."""
    join_tables(area, pieces=pieces, group=number, num_partitions={"hashes": number})
    joined = [[f"hashes/{n:04d}/{number:04d}.npy"] for n in range(number)]
    names = joined if number > 1 else [[f"hashes/{piece}.npy" for piece in pieces]]
    found: list[Dropped] = [
        find_duplicates(area, names=names[n], partition=n, earlier=Partitions()) for n in range(number)
    ]
    return [step.dropped for step in found]


def texts_of(area: WorkArea, folder: Path, number: int) -> list[str]:
    return pq.read_table(area.get(f"documents/{number:09d}.parquet", folder)).column("text").to_pylist()


def test_every_record_is_kept_dropped_or_quarantined(area: WorkArea, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"notes": NOTES})
    (tmp_path / "notes.csv").open("a").write("d\n")
    (step,) = parse_all(area, recipe)
    assert step.counts == {"records": 4, "read": 2, "dropped:too_short": 1, "quarantined": 1, "language:short": 2}
    (bad,) = step.quarantine
    assert bad == QuarantineEntry("notes", "notes.csv", "line 5", "1 columns where the header has 2", None, bad.sha256)
    assert texts_of(area, tmp_path, 0) == [NOTES["a"], NOTES["c"]]


def test_text_is_normalised_and_the_split_is_the_groups(area: WorkArea, tmp_path: Path) -> None:
    rows = {f"n{n}": f"Cafe\u0301 \x07note number {n}, long enough.   " for n in range(40)}
    recipe = recipe_of(tmp_path, {"notes": rows})
    parse_all(area, recipe)
    table = pq.read_table(area.get("documents/000000000.parquet", tmp_path))
    assert table.column("text")[0].as_py() == "Café note number 0, long enough."
    (unit,) = list_units(recipe.sources[0])
    groups = [record.group for record in read_unit(recipe.sources[0], unit)]  # type: ignore[union-attr]
    assert table.column("held_out").to_pylist() == [is_held_out(group, recipe.held_out) for group in groups]
    assert len(set(table.column("key").to_pylist())) == len(rows)


def test_a_unit_that_is_done_is_not_read_again(area: WorkArea, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"notes": NOTES})
    (unit,) = list_units(recipe.sources[0])
    first = parse_unit(area, recipe, unit, number=0)
    (tmp_path / "notes.csv").unlink()
    assert parse_unit(area, recipe, unit, number=0) == first


@pytest.mark.parametrize("number", [1, 3, 16])
def test_the_first_document_of_a_text_stays(area: WorkArea, tmp_path: Path, number: int) -> None:
    same = "The same text, blank for blank."
    notes = {
        "one": {"a": same, "b": NOTES["a"], "c": f"  {same}\r\n"},
        "two": {"d": NOTES["c"], "e": NOTES["a"], "f": same, "g": same.upper()},
    }
    steps = parse_all(area, recipe_of(tmp_path, notes))
    assert sum(duplicates(area, UNITS, number)) == 3
    kept = [
        kept_rows(area, piece=Piece(piece, step.source, step.count("read")), partitions=Partitions(duplicates=number))
        for piece, step in zip(UNITS, steps, strict=True)
    ]
    assert kept[0].tolist() == [True, True, False]
    assert kept[1].tolist() == [True, False, False, True]


def test_hashes_are_sorted_and_ranges_cover_them_all(area: WorkArea, tmp_path: Path) -> None:
    rows = {f"n{n}": f"Note number {n % 100}, long enough." for n in range(200)}
    parse_all(area, recipe_of(tmp_path, {"notes": rows}))
    hashes = area.get_array("hashes/000000000.npy", tmp_path)
    assert hashes.dtype == HASH and len(hashes) == 200
    assert (np.diff(hashes["high"].astype(object)) >= 0).all()
    dropped = duplicates(area, UNITS[:1], 7)
    assert sum(dropped) == 100 and sum(n > 0 for n in dropped) > 3


def test_a_unit_without_documents_is_no_stumbling_block(area: WorkArea, tmp_path: Path) -> None:
    steps = parse_all(area, recipe_of(tmp_path, {"empty": {"a": "x"}, "notes": NOTES}))
    assert steps[0].counts == {"records": 1, "dropped:too_short": 1} and steps[0].dropped == {"too_short": 1}
    assert duplicates(area, UNITS, 1) == [0]
    assert kept_rows(area, piece=Piece(UNITS[0], "empty", 0), partitions=Partitions(duplicates=1)).tolist() == []
    assert texts_of(area, tmp_path, 0) == []


def test_repeated_ids_are_counted_and_stay(area: WorkArea, tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, {"notes": NOTES})
    with (tmp_path / "notes.csv").open("a") as out:
        name = next(iter(NOTES))
        out.writelines(f'{name},"A further text of the same id, number {n}, long enough to stay."\n' for n in range(2))
    (step,) = parse_all(area, recipe)
    assert step.count("repeated_ids") == 2
    (step,) = parse_all(WorkArea(area.store_uri, "other"), recipe_of(tmp_path, {"notes": NOTES}))
    assert "repeated_ids" not in step.counts


def test_versions_that_a_rule_drops_make_pieces_too(
    area: WorkArea, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the memory of a file of reports without text would grow with the file."""
    monkeypatch.setattr(piece_files, "PIECE_DOCUMENTS", 2)
    rows = [f"n{n},{text},1" for n, text in enumerate([NOTES["a"], *[""] * 40, NOTES["c"]])]
    (tmp_path / "t.csv").write_text("\n".join(["id,text,version", *rows, "n0,,2"]))
    source = {"type": "table", "name": "t", "path": str(tmp_path / "t.csv"), "text_column": "text", "id_column": "id"}
    values = {"kind": "corpus", "name": "t", "sources": [{**source, "version_column": "version"}]}
    (step,) = parse_all(area, build_recipe(CorpusRecipe, values, origin="test"))
    assert step.pieces == (1, 0, 1) and step.dropped == {"empty": 41}
    names = [f"keys/{PieceId(0, n)}.npy" for n in range(3)]
    assert resolve_versions(area, names=names, partition=0).dropped == 1  # n0 of the first piece, by the last row
