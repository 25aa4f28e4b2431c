"""Each page in each of its states, run as Streamlit runs it."""

import json
import sys

import pytest
from clinical_modernbert.artifacts import InputEntry, Store
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import DASHBOARDS, PublishMap, opened, publish_bare, words

BOTH_PAGES = pytest.mark.parametrize("page", ["views/code_map.py", "views/lineage.py"])


@BOTH_PAGES
def test_every_page_says_that_it_is_for_research(app: AppTest, publish_map: PublishMap, page: str) -> None:
    publish_map()
    assert app_warnings(opened(app, page))[0] == "Research use, not for care."


def app_warnings(app: AppTest) -> list[str]:
    return [warning.value for warning in app.warning]


@BOTH_PAGES
def test_an_empty_store_says_so(app: AppTest, store: Store, page: str) -> None:
    opened(app, page)
    assert store.uri in app.info[0].value
    assert not app.get("bidi_component")
    assert not app.error


def test_an_empty_store_says_what_to_do(app: AppTest) -> None:
    assert "jobs/map_codes.py" in opened(app, "views/code_map.py").code[0].value


@BOTH_PAGES
def test_a_store_that_cannot_be_opened_says_why(app: AppTest, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["explorer.py", "--root", "ftp://somewhere"])
    opened(app, page)
    assert "cannot be opened" in app.error[0].value
    assert "must be file:// or s3://" in app.code[0].value


@BOTH_PAGES
def test_a_damaged_manifest_hides_nothing_else(app: AppTest, store: Store, publish_map: PublishMap, page: str) -> None:
    artifact = publish_map()
    store.write_bytes("map/broken-1/manifest.json", b'{"kind": "ma')
    opened(app, page)
    assert "damaged" in app.error[0].value
    assert "map/broken-1/manifest.json is damaged" in app.code[0].value
    assert artifact.manifest.id in words(app)


def test_lineage_goes_back_to_the_raw_sources(app: AppTest, publish_map: PublishMap) -> None:
    artifact = publish_map()
    opened(app, "views/lineage.py")
    listed, chain, *_ = (frame.value for frame in app.dataframe)
    assert sorted(listed["kind"]) == ["corpus", "map", "model"]
    assert app.selectbox(key="artifact").value == f"map/{artifact.manifest.id}"
    assert [step.strip("↳ ") for step in chain["step"]] == ["model/m-1", "corpus/c-1", "notes"]
    assert chain["state"].tolist() == ["its content is what was used"] * 2 + ["raw source, 2 file(s)"]
    assert "synthetic text (notes)" in words(app)
    app.selectbox(key="artifact").select("corpus/c-1").run()
    assert not app.exception
    assert "Lineage of corpus/c-1" in words(app)


def test_lineage_shows_what_was_replaced_or_lost(app: AppTest, store: Store, publish_map: PublishMap) -> None:
    publish_map()
    manifest = json.loads(store.read_bytes("model/m-1/manifest.json"))
    manifest["files"] = [{"path": "weights", "size_bytes": 1, "sha256": "0" * 64}]
    store.write_bytes("model/m-1/manifest.json", json.dumps(manifest).encode())
    store.delete("corpus/c-1/manifest.json")
    opened(app, "views/lineage.py")
    assert app.dataframe[1].value["state"].tolist() == [
        "its content was replaced after it was used",
        "deleted from the store",
    ]


def test_lineage_leads_through_a_kept_state_and_names_what_is_not_of_the_store(
    app: AppTest, store: Store, publish_map: PublishMap
) -> None:
    publish_map()
    inputs = (
        InputEntry(name="training.continue_from", id="model/m-1@400", digest="d" * 64),
        InputEntry(name="model.init", id=f"org/base@{'0' * 40}", digest="e" * 64),
    )
    publish_bare(store, "model", "branch-1", inputs=inputs, recipe={})
    opened(app, "views/lineage.py")
    app.selectbox(key="artifact").select("model/branch-1").run()
    chain = app.dataframe[1].value
    assert chain["step"].tolist()[:2] == ["↳ model/m-1@400", "↳ ↳ corpus/c-1"]
    assert chain["state"].tolist()[0] == "its content is what was used"
    assert chain["state"].tolist()[-1] == "from outside this store"
    app.selectbox(key="artifact").select("model/m-1").run()
    made = [frame.value["artifact"].tolist() for frame in app.dataframe if "artifact" in frame.value]
    assert ["model/branch-1"] in [[name for name in names if name.startswith("model/")] for names in made]


def test_the_explorer_needs_neither_torch_nor_ray() -> None:
    sources = [path.read_text() for path in DASHBOARDS.rglob("*.py")]
    assert sources
    for name in ("torch", "ray", "transformers", "openTSNE", "sklearn"):
        assert not any(f"import {name}" in source or f"from {name}" in source for source in sources)
