"""One range: vectors in the rows' order, long texts as the recipe says, and ranges that cover every row once."""

import itertools

import numpy as np
import pyarrow as pa
import pytest
from clinical_modernbert.bulk import ranges
from clinical_modernbert.bulk.embed_part import embed_rows
from clinical_modernbert.bulk.ranges import plan_ranges, slices
from clinical_modernbert.bulk.table import TableFile, TextRow
from clinical_modernbert.encoder import Encoder, load_encoder
from clinical_modernbert.sources.document import Quarantined
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.helpers.embed_recipes import recipe
from tests.helpers.tiny import save_tiny_model

LONG = "acute kidney injury was noted again " * 40


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    folder = tmp_path_factory.mktemp("export")
    save_tiny_model(folder)
    return load_encoder(folder)


def rows(*texts: str) -> list[TextRow | Quarantined]:
    return [TextRow(f"line {i}", str(i), text, ("icu",)) for i, text in enumerate(texts)]


def test_vectors_come_in_order_with_ids_and_columns_and_without_text(encoder: Encoder) -> None:
    texts = ["chest pain", "x " * 30, "no acute distress"]
    given_rows = [*rows(*texts), TextRow("line 9", "9", "  ", (None,)), Quarantined("a.csv", "line 10", "no id")]
    found = embed_rows(encoder, given_rows, recipe("notes"), pooling="cls", file="a.csv")
    assert found.table.column_names == ["id", "ward", "vector", "num_tokens", "truncated", "windows"]
    assert found.table["id"].to_pylist() == ["0", "1", "2"]
    expected = encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=True)
    np.testing.assert_allclose(np.array(found.table["vector"].to_pylist()), expected, atol=1e-6)
    assert (found.num_empty, [bad.reason for bad in found.quarantined]) == (1, ["no id"])


@pytest.mark.parametrize("way", ["truncate", "windows", "quarantine"])
def test_a_long_text_is_read_as_the_recipe_says(encoder: Encoder, way: str) -> None:
    chosen = recipe("notes", long_texts=way, max_tokens=32)
    found = embed_rows(encoder, rows("short", LONG), chosen, pooling="cls", file="a.csv")
    ids = encoder.tokenize([LONG])[0]
    if way == "quarantine":
        assert [(bad.position, bad.reason) for bad in found.quarantined] == [("line 1", "longer than 32 tokens")]
        assert len(found.table) == 1
        return
    last = found.table.slice(1).to_pylist()[0]
    assert last["num_tokens"] == len(ids)
    if way == "truncate":
        expected = encoder.embed([[*ids[:31], ids[-1]]], pooling="cls", normalize=True)[0]
        assert (last["truncated"], last["windows"]) == (True, 1)
    else:
        number = -(-(len(ids) - 2) // 30)
        assert (last["truncated"], last["windows"]) == (False, number)
        cuts = [(len(ids) - 2) * i // number for i in range(number + 1)]
        pieces = [[ids[0], *ids[1:-1][a:b], ids[-1]] for a, b in itertools.pairwise(cuts)]
        weights = [len(piece) - 2 for piece in pieces]
        mean = np.average(encoder.embed(pieces, pooling="cls", normalize=False), axis=0, weights=weights)
        expected = mean / np.linalg.norm(mean)
    np.testing.assert_allclose(last["vector"], expected, atol=1e-6)


@settings(deadline=None)
@given(num_rows=st.lists(st.integers(0, 50), max_size=6), part_rows=st.integers(1, 12))
def test_ranges_hold_every_row_once_and_are_of_like_size(num_rows: list[int], part_rows: int) -> None:
    tables = [TableFile("root", f"{i}.csv") for i in range(len(num_rows))]
    planned = plan_ranges(tables, num_rows, max_rows=part_rows)
    assert [rows.number for rows in planned] == list(range(len(planned)))
    assert [row for rows in planned for row in range(rows.first, rows.first + rows.stop - rows.start)] == list(
        range(sum(num_rows))
    )
    covered = [(r.table.key, row) for r in planned for row in range(r.start, r.stop)]
    assert covered == [(table.key, row) for table, rows in zip(tables, num_rows, strict=True) for row in range(rows)]
    for table in tables:
        sizes = [rows.stop - rows.start for rows in planned if rows.table == table]
        assert not sizes or (max(sizes) <= part_rows and max(sizes) - min(sizes) <= 1)


def test_texts_of_a_range_are_tokenized_in_slices_and_give_the_same_vectors(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    given_rows = rows(*(f"note {i} " + LONG[: 40 * i] for i in range(9)))
    given_rows.insert(4, Quarantined("a.csv", "line 99", "no id"))
    whole = embed_rows(encoder, given_rows, recipe("notes"), pooling="cls", file="a.csv")
    monkeypatch.setattr(ranges, "SLICE_CHARACTERS", 300)
    sizes = [len(some) for some in slices(given_rows)]
    assert sum(sizes) == 10 and 3 < len(sizes) < 10
    cut_up = embed_rows(encoder, iter(given_rows), recipe("notes"), pooling="cls", file="a.csv")
    assert cut_up.table.drop_columns(["vector"]).equals(whole.table.drop_columns(["vector"]))
    np.testing.assert_allclose(cut_up.table["vector"].to_pylist(), whole.table["vector"].to_pylist(), atol=1e-6)
    assert cut_up.quarantined == whole.quarantined
    assert len(embed_rows(encoder, [], recipe("notes"), pooling="cls", file="a.csv").table) == 0


@pytest.mark.parametrize("vector_type", ["float32", "float16", "int8"])
def test_vectors_have_the_width_and_type_of_the_recipe(encoder: Encoder, vector_type: str) -> None:
    texts = ["chest pain", "no acute distress", "x " * 30]
    chosen = recipe("notes", dimensions=16, vector_type=vector_type)
    vectors = embed_rows(encoder, rows(*texts), chosen, pooling="cls", file="a.csv").table["vector"]
    numbers = {"float32": pa.float32(), "float16": pa.float16(), "int8": pa.int8()}[vector_type]
    assert vectors.type == pa.list_(numbers, 16)
    found = np.array(vectors.to_pylist(), dtype=np.float32)
    expected = encoder.embed(encoder.tokenize(texts), pooling="cls", normalize=False)[:, :16]
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    np.testing.assert_allclose(cosines, 1, atol=1e-6 if vector_type == "float32" else 1e-3)
    if vector_type != "int8":
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-3)
