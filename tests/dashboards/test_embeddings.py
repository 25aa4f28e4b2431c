"""Any embedded set: projected by the real job, shown by id and metadata, its texts only by a recorded wish."""

import json
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from clinical_modernbert.artifacts import Artifact, Store, open_store, resolve
from clinical_modernbert.errors import ArtifactError
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import KINDS, area, opened, publish_set, sent, words

PAGE = "views/embeddings.py"
COUNT = len(KINDS)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    folder = tmp_path_factory.mktemp("set")
    return publish_set(open_store(f"file://{folder}/store"), folder / "table")


@pytest.fixture
def in_store(made: Artifact, store: Store) -> None:
    """The set and its map in the store that the app opens."""
    shutil.copytree(made.store.uri.removeprefix("file://"), store.uri.removeprefix("file://"))


def test_the_job_keeps_ids_columns_and_neighbours_of_the_original_space(made: Artifact) -> None:
    rows = pq.read_table(made.file("rows.parquet"))
    assert rows["id"].to_pylist() == [f"N{row}" for row in range(COUNT)]
    assert rows["kind"].to_pylist() == KINDS
    assert not {"vector", "text"} & set(rows.column_names)
    for row, near in enumerate(rows["map_neighbours"].to_pylist()[:70]):
        assert {KINDS[other] for other in near} == {KINDS[row]}
    assert made.summary["of_rows"] == COUNT


def test_the_job_samples_over_all_parts_and_says_so(store: Store, tmp_path: Path) -> None:
    artifact = publish_set(store, tmp_path / "table", max_rows=60)
    ids = pq.read_table(artifact.file("rows.parquet"))["id"].to_pylist()
    assert len(ids) == 60 == artifact.summary["num_rows"]
    assert artifact.summary["of_rows"] == COUNT
    assert ids == sorted(ids, key=lambda name: int(name[1:]))
    assert int(ids[-1][1:]) >= 50


def test_a_set_too_small_for_its_neighbours_is_refused(store: Store, tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match="has 10 rows: a map with num_neighbours=10 needs more"):
        publish_set(store, tmp_path / "table", kinds=KINDS[:10])


def test_documents_are_shown_by_id_and_small_groups_are_not_named(app: AppTest, in_store: None) -> None:
    opened(app, PAGE)
    header, _ = sent(app)
    assert [group["name"] for group in header["groups"]] == ["discharge", "radiology", "all other groups"]
    assert b"secret" not in app.get("bidi_component")[0].proto.bytes
    app.session_state["set-row"] = 70
    app.run()
    assert not app.exception
    assert app.header[0].value == "Document 71 of the map"
    assert "secret" not in words(app)
    shown = json.dumps([frame.value.to_dict("records") for frame in app.dataframe])
    assert "(fewer than 11)" in shown
    for private in ("a rare kind", "N70"):
        assert private not in shown + words(app)
    app.selectbox(key="set-colour").set_value("length").run()
    header, _ = sent(app)
    assert "up to 512 tokens" in [group["name"] for group in header["groups"]]


def test_a_selection_below_the_floor_is_not_shown(app: AppTest, in_store: None) -> None:
    opened(app, PAGE)
    app.session_state["set-area"] = area([0, 1])
    app.run()
    assert "Fewer than 11 documents are selected" in words(app)
    assert not app.dataframe
    app.session_state["set-area"] = area([1, 2])
    app.run()
    assert "**40 documents**" in words(app)
    by_kind = app.dataframe[0].value
    assert by_kind["value"].tolist() == ["discharge", "radiology"]
    assert "a rare kind" not in app.selectbox(key="set-against").options


def test_a_text_is_shown_only_after_its_line_is_written(
    app: AppTest, in_store: None, caplog: pytest.LogCaptureFixture
) -> None:
    app.session_state["set-row"] = 7
    opened(app, PAGE)
    assert "secret" not in words(app)
    with caplog.at_level("INFO"):
        next(button for button in app.button if button.label == "Show id and text").click().run()
    assert "id N7\n\nThe secret text of note 7." in words(app)
    (line,) = [record.message for record in caplog.records if record.name == "clinical_modernbert.audit"]
    assert json.loads(line)["what"].startswith("embeddings/notes-")
    assert json.loads(line)["what"].endswith("/row 7")
    assert "secret" not in caplog.text
    next(button for button in app.button if button.label == "Hide the text").click().run()
    assert "secret" not in words(app)


def test_a_text_whose_table_is_gone_is_said_to_be_gone(app: AppTest, in_store: None, made: Artifact) -> None:
    embeddings = resolve(made.store, "embeddings", "notes")
    table = Path(embeddings.manifest.recipe["input_uri"]) / "notes.parquet"
    kept = table.read_bytes()
    table.unlink()
    try:
        app.session_state["set-row"] = 7
        opened(app, PAGE)
        next(button for button in app.button if button.label == "Show id and text").click().run()
        assert not app.exception
        assert "cannot read the table" in words(app)
    finally:
        table.write_bytes(kept)


def test_the_files_of_a_selection_hold_no_id_and_no_small_value(in_store: None, made: Artifact) -> None:
    from views.embeddings import without_small

    rows = pq.read_table(made.file("rows.parquet"))
    assert set(without_small(rows["kind"]).to_pylist()) == {"discharge", "radiology", "(fewer than 11)"}
    numbers = pa.chunked_array([[f"MRN{n}" for n in range(30)] + [None]])
    assert set(without_small(numbers).to_pylist()) == {"(fewer than 11)"}  # that one has none can name it too
    assert without_small(pa.chunked_array([["a"] * 11 + [None] * 11])).to_pylist() == ["a"] * 11 + [None] * 11


def test_ids_of_a_selection_are_shown_by_a_recorded_click(
    app: AppTest, in_store: None, caplog: pytest.LogCaptureFixture
) -> None:
    opened(app, PAGE)
    app.session_state["set-area"] = area([1, 2])
    app.run()
    listed = json.dumps([frame.value.to_dict("records") for frame in app.dataframe])
    assert '"N7"' not in listed
    with caplog.at_level("INFO"):
        next(b for b in app.button if b.label == "Show the ids of the selected documents").click().run()
    assert "N7\nN8" in words(app)
    (line,) = [record.message for record in caplog.records if record.name == "clinical_modernbert.audit"]
    assert "ids of 40 documents, sha256 " in json.loads(line)["what"]
    assert "N7" not in caplog.text


def test_an_empty_store_says_what_to_do(app: AppTest) -> None:
    opened(app, PAGE)
    assert "jobs/project.py" in app.code[0].value
