"""What stops a build at default limits: damage in one source, whatever its format, and a source without a document."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.documents import parse_unit
from clinical_modernbert.corpus.refusals import refuse_bad_input
from clinical_modernbert.errors import CorpusError
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.sources import list_units

NOTES = [{"id": str(n), "patient": f"p{n}", "text": f"Note {n}: the patient took warfarin daily."} for n in range(300)]
TABLE = {"text_column": "text", "id_column": "id", "group_column": "patient"}
GOOD = {"type": "synthetic_notes", "name": "good", "num_documents": 20}


def check(folder: Path, *sources: dict[str, Any], **changes: Any) -> None:
    """Parse all sources as a build does, and refuse as it does."""
    values = {"kind": "corpus", "name": "t", "sources": list(sources), "dedup": {"near": False}, **changes}
    recipe = build_recipe(CorpusRecipe, values, origin="test")
    area = WorkArea(f"file://{folder / 'store'}", "work/corpus/test")
    units = [unit for source in recipe.sources for unit in list_units(source)]
    refuse_bad_input(recipe, [parse_unit(area, recipe, unit, number=n) for n, unit in enumerate(units)])


def write_csv(folder: Path, rows: list[dict[str, str]]) -> bytes:
    lines = ["id,patient,text\n"] + [f'{row["id"]},{row["patient"]},"{row["text"]}"\n' for row in rows]
    return "".join(lines).encode()


def torn_csv(folder: Path) -> dict[str, Any]:
    packed = gzip.compress(write_csv(folder, NOTES))
    (folder / "notes.csv.gz").write_bytes(packed[: len(packed) // 10])
    return {"type": "table", "path": str(folder / "notes.csv.gz"), **TABLE}


def torn_mimic(folder: Path) -> dict[str, Any]:
    rows = "".join(f'1-DS-{n},{n},"Note {n}: warfarin daily."\n' for n in range(1000))
    packed = gzip.compress(f"note_id,subject_id,text\n{rows}".encode())
    (folder / "discharge.csv.gz").write_bytes(packed[: len(packed) * 9 // 10])
    return {"type": "mimic_note", "path": str(folder)}


def torn_json(folder: Path) -> dict[str, Any]:
    packed = gzip.compress("".join(f"{json.dumps(row)}\n" for row in NOTES).encode())
    (folder / "notes.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    return {"type": "table", "path": str(folder / "notes.jsonl.gz"), **TABLE}


def torn_codes(folder: Path) -> dict[str, Any]:
    packed = gzip.compress("".join(f"A{n // 10:02d}{n % 10}   Cholera of kind {n}\n" for n in range(1000)).encode())
    (folder / "codes.txt.gz").write_bytes(packed[: len(packed) // 2])
    return {"type": "codes", "table": "icd10cm", "path": str(folder / "codes.txt.gz")}


def torn_parquet(folder: Path) -> dict[str, Any]:
    """The footer is whole, and a later row group is overwritten."""
    path = folder / "notes.parquet"
    pq.write_table(pa.Table.from_pylist(NOTES), path, row_group_size=30, compression="zstd")
    start = pq.ParquetFile(path).metadata.row_group(3).column(0).dictionary_page_offset
    content = bytearray(path.read_bytes())
    content[start : start + 40] = b"\xff" * 40
    path.write_bytes(content)
    return {"type": "table", "path": str(path), **TABLE}


def torn_shards(folder: Path) -> dict[str, Any]:
    (folder / "data").mkdir()
    for shard in range(4):
        rows = {
            "subject_id": list(range(shard * 100, shard * 100 + 100)),
            "time": pa.array([None] * 100, type=pa.timestamp("us")),
            "code": [f"LAB//{n}//potassium high" for n in range(100)],
        }
        path = folder / "data" / f"{shard}.parquet"
        pq.write_table(pa.table(rows), path)
        if shard:
            path.write_bytes(path.read_bytes()[:-100])
    return {"type": "meds", "path": str(folder)}


def unclosed_quote(folder: Path) -> dict[str, Any]:
    content = (
        write_csv(folder, NOTES).decode().replace('p200,"Note 200: the patient took warfarin daily."', 'p200,"Note')
    )
    # No later row has a quote.
    head, tail = content.split('p200,"Note\n')
    (folder / "notes.csv").write_text(head + 'p200,"Note\n' + tail.replace('"', ""))
    return {"type": "table", "path": str(folder / "notes.csv"), **TABLE}


def cut_csv(folder: Path) -> dict[str, Any]:
    content = write_csv(folder, NOTES)
    (folder / "notes.csv").write_bytes(content[: len(content) * 99 // 100])
    return {"type": "table", "path": str(folder / "notes.csv"), **TABLE}


def cut_row(folder: Path) -> dict[str, Any]:
    (folder / "notes.csv").write_bytes(write_csv(folder, NOTES).replace(b'"', b"") + b"n9999,p9")
    return {"type": "table", "path": str(folder / "notes.csv"), **TABLE}


def cut_json(folder: Path) -> dict[str, Any]:
    content = "".join(f"{json.dumps(row)}\n" for row in NOTES)
    (folder / "notes.jsonl").write_text(content[: len(content) * 99 // 100])
    return {"type": "table", "path": str(folder / "notes.jsonl"), **TABLE}


def flipped_csv(folder: Path) -> dict[str, Any]:
    packed = bytearray(gzip.compress(write_csv(folder, NOTES)))
    packed[-6] ^= 0x55  # of the check sum: where the text was changed is unknown
    (folder / "notes.csv.gz").write_bytes(packed)
    return {"type": "table", "path": str(folder / "notes.csv.gz"), **TABLE}


def unfinished_copy(folder: Path) -> dict[str, Any]:
    content = write_csv(folder, NOTES)
    (folder / "notes.csv").write_bytes(content[: len(content) // 2] + bytes(len(content) // 2))
    return {"type": "table", "path": str(folder / "notes.csv"), **TABLE}


def null_block(folder: Path) -> dict[str, Any]:
    lines = "".join(f"A{n // 10:02d}{n % 10}   Cholera of kind {n}\n" for n in range(1000)).encode()
    (folder / "codes.txt").write_bytes(lines[:8_192] + bytes(4_096) + lines[12_288:])
    return {"type": "codes", "table": "icd10cm", "path": str(folder / "codes.txt")}


def latin1(folder: Path) -> dict[str, Any]:
    (folder / "discharge.csv").write_bytes(
        b"note_id,subject_id,text\n" + b"".join(b"1-DS-%d,%d,M\xe9ni\xe8re\n" % (n, n) for n in range(70))
    )
    return {"type": "mimic_note", "path": str(folder)}


@pytest.mark.parametrize(
    "write",
    [
        torn_csv,
        torn_mimic,
        torn_json,
        torn_codes,
        torn_parquet,
        torn_shards,
        unclosed_quote,
        latin1,
        cut_csv,
        cut_row,
        cut_json,
        flipped_csv,
        unfinished_copy,
        null_block,
    ],
)
def test_damage_of_one_source_stops_a_build_at_default_limits(
    write: Callable[[Path], dict[str, Any]], tmp_path: Path
) -> None:
    source = {"name": "bad", **write(tmp_path)}
    with pytest.raises(CorpusError, match=r"^source bad: \d+ of \d+ records had to be quarantined") as refused:
        check(tmp_path, GOOD, source)
    assert "warfarin" not in str(refused.value)


def test_a_whole_source_is_lost_in_another_one_s_share_and_still_refused(tmp_path: Path) -> None:
    (tmp_path / "discharge.csv").write_text('note_id,subject_id,text\n1-DS-1,1," "\n')
    source = {"type": "mimic_note", "name": "empty", "path": str(tmp_path)}
    with pytest.raises(
        CorpusError, match=r"^source empty: no document is left of 1 records: dropped \{'empty': 1\}.*remove it"
    ):
        check(tmp_path, GOOD, source)
    check(tmp_path, GOOD)


def test_one_of_many_files_that_is_cut_is_within_the_limit(tmp_path: Path) -> None:
    rows = "".join(f'1-DS-{{}}{n},{n},"Note {n}: warfarin daily."\n' for n in range(100))
    packed = gzip.compress(f"note_id,subject_id,text\n{rows}".encode())
    for number in range(110):
        (tmp_path / f"discharge{number}.csv.gz").write_bytes(packed)
    (tmp_path / "discharge7.csv.gz").write_bytes(packed[: len(packed) // 2])
    source = {"type": "mimic_note", "name": "many", "path": str(tmp_path)}
    check(tmp_path, source)
    with pytest.raises(CorpusError, match=r"discharge7\.csv\.gz row \d+, byte \d+: the gzip archive is truncated"):
        check(tmp_path / "again", source, max_quarantined_fraction=0.0)


def test_a_source_s_own_limit_holds_for_it_alone(tmp_path: Path) -> None:
    half = {"type": "table", **TABLE}
    for name in ("known", "other"):
        content = write_csv(tmp_path, NOTES)
        (tmp_path / f"{name}.csv").write_bytes(content[: content.rindex(b'"')])
    known, other = ({**half, "name": name, "path": str(tmp_path / f"{name}.csv")} for name in ("known", "other"))
    with pytest.raises(CorpusError, match=r"^source other: 1 of 300 records .*=0\.01 allows.*raise the source's limit"):
        check(tmp_path / "both", {**known, "max_quarantined_fraction": 0.51}, other)
    check(tmp_path / "alone", GOOD, {**known, "max_quarantined_fraction": 0.51})
    with pytest.raises(CorpusError, match=r"^source other: .*=0\.2 allows"):
        check(tmp_path / "lower", {**other, "max_quarantined_fraction": 0.2}, max_quarantined_fraction=0.6)


def test_a_source_of_which_nothing_was_read_passes_with_no_limit_below_one(tmp_path: Path) -> None:
    (tmp_path / "notes.parquet").write_bytes(b"PAR1 no table PAR1")
    source = {"type": "table", "name": "bad", "path": str(tmp_path / "notes.parquet"), **TABLE}
    with pytest.raises(CorpusError, match=r"an unknown number of more were not read.*=0\.9 allows"):
        check(tmp_path, GOOD, source, max_quarantined_fraction=0.9)
