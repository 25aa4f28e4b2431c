"""The bulk job on Ray Data: vectors equal to the offline and the served ones, an account that balances, a killed job goes on."""

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray
import torch
import yaml
from clinical_modernbert.artifacts import (
    Artifact,
    Manifest,
    Store,
    list_artifacts,
    open_store,
    resolve,
    upload_folder,
    write_manifest,
)
from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.bulk.embed import embed_table
from clinical_modernbert.bulk.embed_part import RangeEmbedder
from clinical_modernbert.bulk.extract import extract_spans
from clinical_modernbert.bulk.ranges import RowRange
from clinical_modernbert.bulk.table import find_tables, fingerprint_inputs
from clinical_modernbert.encoder import load_encoder
from clinical_modernbert.job import main
from clinical_modernbert.recipe import EmbedRecipe, ExtractRecipe, ServeRecipe
from clinical_modernbert.runtime import start_ray
from clinical_modernbert.serving.engine import load_engine
from clinical_modernbert.serving.routes import openai
from clinical_modernbert.serving.service import EmbeddingService
from transformers import AutoModel, AutoModelForSequenceClassification, AutoTokenizer

from tests.helpers.encoders import encoder_folders  # noqa: F401  # a fixture
from tests.helpers.processes import kill_with_all_it_started
from tests.helpers.s3_server import S3Server
from tests.helpers.served_models import publish_folder, publish_model
from tests.helpers.tiny import save_tiny_classifier

pytestmark = pytest.mark.ray

CANARY = "Zebulon Quixworth"
WARDS = ("icu", "er", "clinic")


@pytest.fixture(scope="module", autouse=True)
def _ray() -> Iterator[None]:
    start_ray(num_cpus=2)
    yield
    ray.shutdown()


def note(i: int) -> str:
    return f"{CANARY} {i} took warfarin {i % 9} mg. " + "no acute distress; afebrile. " * (i * 7 % 23)


def write_tables(folder: Path, *, num_rows: int = 60) -> dict[str, str]:
    """Write half of the notes as CSV with three bad rows, half as Parquet; return the text of each id."""
    folder.mkdir()
    half = num_rows // 2
    lines = [f'{i},{WARDS[i % 3]},"{note(i)}"' for i in range(half)]
    lines[5:5] = ["only-one-column", f",icu,{CANARY}", "empty,icu,"]
    (folder / "a.csv").write_text("note_id,ward,text\n" + "\n".join(lines) + "\n")
    rest = range(half, num_rows)
    columns = {"note_id": list(rest), "ward": [WARDS[i % 3] for i in rest], "text": [note(i) for i in rest]}
    pq.write_table(pa.table(columns), folder / "b.parquet", row_group_size=7)
    return {str(i): note(i) for i in range(num_rows)}


def recipe_values(input_uri: str, **changes: Any) -> dict[str, Any]:
    return {
        "kind": "embed",
        "name": "notes",
        "model": "tiny",
        "input_uri": input_uri,
        "id_column": "note_id",
        "text_column": "text",
        "metadata_columns": ["ward"],
        "max_tokens": 96,
        "part_rows": 8,
        "max_quarantined_fraction": 0.1,
        "scaling": {"num_workers": 1},
        **changes,
    }


def run(values: dict[str, Any], root: str, folder: Path) -> Artifact:
    path = folder / "notes.yaml"
    path.write_text(yaml.safe_dump(values))
    main(EmbedRecipe, embed_table, raw_inputs=fingerprint_inputs, arguments=[str(path), "--root", root])
    return resolve(open_store(root), "embeddings", values["name"])


def read(artifact: Artifact) -> pa.Table:
    # By the manifest: a kill may leave a half-written file beside the finished ones.
    paths = [entry.path for entry in artifact.manifest.files if entry.path.startswith("vectors/")]
    return pa.concat_tables([pq.read_table(artifact.file(path)) for path in paths])


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    folder = tmp_path_factory.mktemp("raw") / "tables"
    return folder, write_tables(folder)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    publish_model(root, tmp_path_factory.mktemp("export"))
    return root


@pytest.fixture(scope="module")
def made(tables: tuple[Path, dict[str, str]], root: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    values = recipe_values(str(tables[0]), scaling={})  # as many actors as there is room for
    return run(values, str(root), tmp_path_factory.mktemp("recipe"))


def test_every_vector_is_the_offline_and_the_served_one(
    made: Artifact, tables: tuple[Path, dict[str, str]], root: Path
) -> None:
    table = read(made)
    ids, vectors = table["id"].to_pylist(), np.array(table["vector"].to_pylist())
    assert sorted(ids) == sorted(tables[1])
    texts = [tables[1][name] for name in ids]
    assert table["ward"].to_pylist() == [WARDS[int(name) % 3] for name in ids]
    assert set(table.column_names) == {"id", "ward", "vector", "num_tokens", "truncated", "windows"}

    limits = {"max_tokens": 96, "max_batch_tokens": 512}
    engine = load_engine(str(root), ServeRecipe.model_validate({"name": "t", "model": "tiny", "limits": limits}))
    service = EmbeddingService(engine)
    request = openai.EmbeddingsRequest(input=texts, model="tiny", windows=True)
    served = json.loads(asyncio.run(openai.embeddings(service, request)).body)["data"]
    service.close()
    np.testing.assert_allclose(vectors, np.array([item["embedding"] for item in served]), atol=1e-5)
    assert table["windows"].to_pylist() == [item.get("windows", 1) for item in served]

    encoder = load_encoder(resolve(open_store(str(root)), "model", "tiny").folder("model"))
    token_ids = encoder.tokenize(texts)
    short = [i for i, found in enumerate(token_ids) if len(found) <= 96]
    assert 0 < len(short) < len(texts)  # both ways of reading, or the test shows nothing
    expected = encoder.embed([token_ids[i] for i in short], pooling="cls", normalize=True)
    np.testing.assert_allclose(vectors[short], expected, atol=1e-5)


def test_the_manifest_accounts_for_every_row_and_says_where_bad_ones_lie(made: Artifact) -> None:
    summary = made.summary
    assert summary["rows"] == summary["embedded"] + summary["empty"] + summary["quarantined"] == 63
    assert (summary["embedded"], summary["empty"], summary["quarantined"]) == (60, 1, 2)
    listed = [(entry["file"], entry["position"]) for entry in summary["quarantine"]]
    assert listed == [("a.csv", "line 7"), ("a.csv", "line 8")]
    assert pq.read_table(made.file("quarantine.parquet")).to_pylist() == summary["quarantine"]
    assert (summary["duplicate_ids"], summary["dimensions"], summary["vector_type"]) == (0, None, "float32")
    sizes = summary["rows_of_parts"]
    assert sum(sizes) == 60
    assert max(sizes) <= 8
    assert made.manifest.recipe["scaling"]["num_workers"] is None
    assert [entry.name for entry in made.manifest.inputs] == ["model", "a.csv", "b.parquet"]


def test_no_text_is_kept_anywhere(made: Artifact, root: Path) -> None:
    files = [path for path in (root / "embeddings").rglob("*") if path.is_file()]
    assert len(files) > 8
    assert [path for path in files if b"Zebulon" in path.read_bytes()] == []
    assert not (root / "work").exists()


def test_the_same_job_on_an_s3_store_reads_and_writes_there(
    made: Artifact, tables: tuple[Path, dict[str, str]], root: Path, s3_environment: S3Server, tmp_path: Path
) -> None:
    uri = f"s3://{s3_environment.bucket}/bulk"
    store = open_store(uri)
    for path in [*tables[0].iterdir(), *(root / "model").rglob("*")]:
        if path.is_file():
            below = f"tables/{path.name}" if path.parent == tables[0] else str(path.relative_to(root))
            store.put_file(path, below)
    ray.shutdown()  # its workers must see the variables of the store
    start_ray(num_cpus=2)
    found = run(recipe_values(f"{uri}/tables"), uri, tmp_path)
    assert found.manifest.id == made.manifest.id
    assert read(found).equals(read(made))


@pytest.mark.parametrize(
    ("architecture", "auto", "head"),
    [
        ("modernbert", AutoModel, {"kind": "embedding", "pooling": "mean", "max_tokens": 64}),
        ("bert", AutoModelForSequenceClassification, {"kind": "sequence_classification", "max_tokens": 64}),
    ],
)
def test_fine_tuned_exports_give_the_vectors_of_transformers(
    architecture: str,
    auto: Any,
    head: dict[str, Any],
    encoder_folders: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder, store = tmp_path / "export", open_store(str(tmp_path / "store"))
    model = auto.from_pretrained(encoder_folders[architecture]).eval()
    tokenizer = AutoTokenizer.from_pretrained(encoder_folders[architecture])
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    write_manifest(
        store,
        "model/run-0123456789ab",
        Manifest(
            kind="model",
            id="run-0123456789ab",
            fingerprint="0123456789ab",
            format_version=1,
            recipe={},
            inputs=(),
            summary={"head": head},
            files=upload_folder(store, "model/run-0123456789ab", folder),
        ),
    )
    texts = {str(i): f"The patient took heparin {i} mg." + " daily" * (5 * i) for i in range(6)}
    pq.write_table(pa.table({"note_id": list(texts), "text": list(texts.values())}), tmp_path / "notes.parquet")
    own = {} if "pooling" in head else {"pooling": "mean"}
    changes = {"model": "run", "metadata_columns": [], **own, "max_tokens": 64}
    values = recipe_values(str(tmp_path / "notes.parquet"), **changes)
    if "pooling" in head:
        with pytest.raises(SystemExit):
            run({**values, "pooling": "cls"}, store.uri, tmp_path)
        assert "run-0123456789ab were trained with pooling=mean" in capsys.readouterr().err
    table = embedded_here(values, store, texts=texts)
    with torch.inference_mode():
        for row in table.to_pylist():
            ids = tokenizer(texts[row["id"]], return_tensors="pt")["input_ids"]
            mean_D = model.base_model(input_ids=ids).last_hidden_state[0].mean(0)
            np.testing.assert_allclose(row["vector"], mean_D / mean_D.norm(), atol=1e-5)
    assert len(table) == len(texts)


def embedded_here(values: dict[str, Any], store: Store, *, texts: dict[str, str]) -> pa.Table:
    """Embed all rows as one range in this process, by what an actor of the job holds."""
    scaling = {"num_workers": 1, "cpus_per_worker": torch.get_num_threads()}  # as many threads as there are
    recipe = EmbedRecipe.model_validate({**values, "scaling": scaling})
    (table,) = find_tables(recipe)
    embed = RangeEmbedder(WorkArea(store.uri, "work/embeddings/here"), recipe, "run-0123456789ab", "embeddings/here")
    found = embed(RowRange(0, table, 0, len(texts)))
    return pq.read_table(pa.BufferReader(store.read_bytes(f"embeddings/here/{found.file.path}")))


def test_spans_of_an_omop_table_are_published_with_their_account(tmp_path: Path) -> None:
    save_tiny_classifier(tmp_path / "head" / "model", head="token", labels=("O", "B-DRUG", "I-DRUG"))
    publish_folder(tmp_path / "store", tmp_path / "head")
    (tmp_path / "note").mkdir()
    lines = [f'{i},{1000 + i},"Took warfarin {i} mg daily."' for i in range(20)]
    (tmp_path / "note" / "note.csv").write_text("\n".join(["NOTE_ID,PERSON_ID,NOTE_TEXT", *lines, "20,1020,", "x,1,y"]))
    values = {"kind": "extract", "name": "drugs", "model": "tiny", "input_uri": str(tmp_path / "note"), "part_rows": 7}
    values |= {"id_column": "note_id", "text_column": "note_text", "max_quarantined_fraction": 0.1}
    (tmp_path / "drugs.yaml").write_text(yaml.safe_dump({**values, "scaling": {"num_workers": 1}}))
    arguments = [str(tmp_path / "drugs.yaml"), "--root", str(tmp_path / "store")]
    main(ExtractRecipe, extract_spans, raw_inputs=fingerprint_inputs, arguments=arguments)
    artifact = resolve(open_store(str(tmp_path / "store")), "spans", "drugs")
    account = {name: artifact.summary[name] for name in ("rows", "labelled", "empty", "quarantined")}
    assert account == {"rows": 22, "labelled": 20, "empty": 1, "quarantined": 1}
    tables = [pq.read_table(artifact.file(f"note_nlp/00000{i}.parquet")) for i in range(4)]
    found = pa.concat_tables(tables).to_pylist()
    assert len(found) == sum(artifact.summary["spans"].values()) > 0
    assert len({row["note_nlp_id"] for row in found}) == len(found)
    for row in found:
        text = f"Took warfarin {row['note_id']} mg daily."
        assert text[int(row["offset"]) :].startswith(row["lexical_variant"])
        assert row["nlp_system"] == "clinical-modernbert tiny-0123456789ab"


def test_too_much_quarantine_ends_the_job_with_one_message(
    tables: tuple[Path, dict[str, str]], root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = recipe_values(str(tables[0]), name="strict", max_quarantined_fraction=0.0)
    with pytest.raises(SystemExit) as stop:
        run(values, str(root), tmp_path)
    assert stop.value.code == 2
    (error,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert "2 of 63 rows had to be quarantined" in error
    assert "a.csv line 7: 1 columns where the header has 3" in error
    assert CANARY not in error


def test_rows_with_one_id_are_refused_with_their_places_where_the_recipe_says_so(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "twice"
    write_tables(folder, num_rows=8)
    with (folder / "a.csv").open("a") as file:
        file.write("1,icu,again\n")
    pq.write_table(pa.table({"note_id": [2], "ward": ["er"], "text": [note(2)]}), folder / "c.parquet")
    values = recipe_values(str(folder), name="twice", max_quarantined_fraction=0.5, duplicate_ids="refuse")
    with pytest.raises(SystemExit):
        run(values, str(root), tmp_path)
    error = capsys.readouterr().err
    assert "2 of 13 rows have an id in 'note_id' that an earlier row has: a.csv row 8; c.parquet row 1" in error
    with pytest.raises(SystemExit):
        run({**values, "duplicate_ids": "keep", "dimensions": 4096}, str(root), tmp_path)
    assert "dimensions=4096: vectors of tiny-" in capsys.readouterr().err


@pytest.mark.slow
def test_a_killed_job_goes_on_at_its_first_open_part(root: Path, repository: Path, tmp_path: Path) -> None:
    texts = write_tables(tmp_path / "tables", num_rows=120)
    with (tmp_path / "tables" / "a.csv").open("a") as file:
        file.write(f'1,icu,"{note(1)}"\n')  # an id twice, which the recipe keeps
    values = recipe_values(str(tmp_path / "tables"), name="killed", part_rows=4, max_tokens=500)
    recipe_path = tmp_path / "killed.yaml"
    recipe_path.write_text(yaml.safe_dump(values))
    command = [sys.executable, "jobs/embed.py", str(recipe_path), "--root", str(root)]
    parts = root / "work" / "embeddings"

    def finished() -> dict[str, int]:
        return {path.name: path.stat().st_mtime_ns for path in parts.glob("killed-*/part/*.json")}

    with (tmp_path / "log").open("wb") as log:
        job = subprocess.Popen(command, cwd=repository, env=os.environ, stdout=log, stderr=log, start_new_session=True)
    try:
        deadline = time.monotonic() + 300
        while len(finished()) < 5:
            assert job.poll() is None and time.monotonic() < deadline, (tmp_path / "log").read_text()[-4000:]
            time.sleep(0.005)
    finally:
        kill_with_all_it_started(job)
    before = finished()
    assert 5 <= len(before) < 31
    assert [a for a in list_artifacts(open_store(str(root)), "embeddings") if a.manifest.id.startswith("killed")] == []
    (folder,) = (root / "embeddings").glob("killed-*")
    written = {path.name: path.stat().st_mtime_ns for path in (folder / "vectors").glob("*.parquet")}
    resumed = run(values, str(root), tmp_path)
    after = {path.name: path.stat().st_mtime_ns for path in (folder / "vectors").glob("*.parquet")}
    kept = [name.replace(".json", ".parquet") for name in before]
    assert {name: after[name] for name in kept} == {name: written[name] for name in kept}  # not one was done again
    table = read(resumed)
    assert resumed.summary["embedded"] == len(table) == len(texts) + 1 and resumed.summary["duplicate_ids"] == 1
    encoder = load_encoder(resolve(open_store(str(root)), "model", "tiny").folder("model"))
    ids = table["id"].to_pylist()
    expected = encoder.embed(encoder.tokenize([texts[name] for name in ids]), pooling="cls", normalize=True)
    np.testing.assert_allclose(np.array(table["vector"].to_pylist()), expected, atol=1e-5)
