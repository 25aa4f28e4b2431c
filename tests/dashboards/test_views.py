"""Each page in each of its states, run as Streamlit runs it."""

import json
import sys

import pytest
from clinical_modernbert.artifacts import Store
from streamlit.testing.v1 import AppTest

from tests.dashboards.conftest import DASHBOARDS, PublishMap

BOTH_PAGES = pytest.mark.parametrize("page", ["views/code_map.py", "views/lineage.py"])


def opened(app: AppTest, page: str) -> AppTest:
    app.run()
    app.switch_page(page).run()
    assert not app.exception
    return app


def words(app: AppTest) -> str:
    """All that the page says, outside tables."""
    kinds = (app.title, app.subheader, app.markdown, app.caption, app.text, app.info, app.warning, app.error, app.code)
    return "\n".join(str(element.value) for kind in kinds for element in kind)


def chart(app: AppTest) -> list[dict[str, object]]:
    (element,) = app.get("plotly_chart")
    return json.loads(element.proto.spec)["data"]  # type: ignore[no-any-return]


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
    assert not app.get("plotly_chart")
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


@pytest.mark.parametrize("name", ["codes.parquet", "report.json"])
def test_a_damaged_file_is_named_and_not_shown(app: AppTest, store: Store, publish_map: PublishMap, name: str) -> None:
    artifact = publish_map()
    store.write_bytes(f"{artifact.prefix}/{name}", b"something else")
    opened(app, "views/code_map.py")
    assert "damaged" in app.error[0].value
    assert f"{name} differs from its manifest" in app.code[0].value
    assert not app.get("plotly_chart")


def test_the_map_shows_every_chapter_and_where_it_comes_from(app: AppTest, publish_map: PublishMap) -> None:
    manifest = publish_map().manifest
    opened(app, "views/code_map.py")
    assert len(chart(app)) == 21
    said = words(app)
    for fact in ("model `m-1`", manifest.fingerprint, manifest.created_at[:10], "420 ICD9CM codes"):
        assert fact in said
    assert "trained in part on synthetic text** (notes)" in said
    assert not app.selectbox


def test_purity_stands_beside_its_baselines(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(encoder=0.9)
    opened(app, "views/code_map.py")
    assert [metric.value for metric in app.metric] == ["90.0%", "30.0%", "60.0%", "5.0%"]
    assert len(app.warning) == 1


def test_a_model_that_learnt_nothing_is_called_so(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(encoder=0.4)
    opened(app, "views/code_map.py")
    assert app.warning[1].value == "This model is not better than: Shared words alone (TF-IDF)."


def test_search_lists_and_marks(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, "views/code_map.py")
    app.text_input(key="query").input("kidney").run()
    assert "**1 found**" in words(app)
    (found,) = app.dataframe
    assert found.value["code"].tolist() == ["102.01"]
    assert [trace["name"] for trace in chart(app)[21:]] == ["found by the search (1)"]
    app.text_input(key="query").input("no such words").run()
    assert "No code begins with that" in words(app)
    assert len(chart(app)) == 21
    assert "no such words" not in str(app.query_params)


def test_search_that_finds_too_many_lists_the_first(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, "views/code_map.py")
    app.text_input(key="query").input("finding").run()
    assert "**419 found**, the first 200 are listed" in words(app)
    assert len(app.dataframe[0].value) == 200


def test_a_chosen_code_shows_its_card(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, "views/code_map.py")
    assert "Choose a code" in words(app)
    app.session_state["row"] = 42
    app.run()
    assert not app.exception
    said = words(app)
    assert app.subheader[0].value == "102.02"
    assert "Finding 42 of <organ> *2*" in said
    assert "Chapter 102-102: Diseases of the 2th organ" in said
    assert "Held out" in said
    nearest = app.dataframe[0].value
    assert nearest["code"].tolist() == [f"102.{n:02d}" for n in range(3, 13)]
    assert nearest["similarity"].tolist() == pytest.approx([1 - n / 100 for n in range(1, 11)])
    assert nearest["same chapter"].all()
    assert len(chart(app)) == 21


def test_a_code_chosen_from_a_list_is_marked_with_its_nearest(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, "views/code_map.py")
    app.session_state["row"] = app.session_state["marked"] = 42
    app.run()
    near, chosen = chart(app)[21:]
    assert (near["name"], chosen["name"]) == ("its nearest codes", "102.02")


def test_one_of_several_maps_is_chosen(app: AppTest, publish_map: PublishMap) -> None:
    ids = {publish_map(name).manifest.id for name in ("first", "second")}
    opened(app, "views/code_map.py")
    box = app.selectbox(key="map")
    assert len(box.options) == 2
    app.session_state["row"] = app.session_state["marked"] = 42
    other = (ids - {box.value}).pop()
    box.set_value(other).run()
    assert f"map `{other}`" in words(app)
    assert "Choose a code" in words(app)


def test_lineage_goes_back_to_the_raw_sources(app: AppTest, publish_map: PublishMap) -> None:
    artifact = publish_map()
    opened(app, "views/lineage.py")
    listed, chain, *_ = (frame.value for frame in app.dataframe)
    assert sorted(listed["kind"]) == ["corpus", "map", "model"]
    assert app.selectbox(key="artifact").value == f"map/{artifact.manifest.id}"
    assert [step.strip("↳ ") for step in chain["step"]] == ["model/m-1", "corpus/c-1", "notes"]
    assert chain["state"].tolist() == ["content is what was used"] * 2 + ["raw source, 2 file(s)"]
    assert "synthetic text: notes" in words(app)
    app.selectbox(key="artifact").select("corpus/c-1").run()
    assert not app.exception
    assert "Where corpus/c-1 comes from" in words(app)


def test_lineage_shows_what_was_replaced_or_lost(app: AppTest, store: Store, publish_map: PublishMap) -> None:
    publish_map()
    manifest = json.loads(store.read_bytes("model/m-1/manifest.json"))
    manifest["files"] = [{"path": "weights", "size_bytes": 1, "sha256": "0" * 64}]
    store.write_bytes("model/m-1/manifest.json", json.dumps(manifest).encode())
    store.delete("corpus/c-1/manifest.json")
    opened(app, "views/lineage.py")
    assert app.dataframe[1].value["state"].tolist() == [
        "content is not what was used: it was replaced since",
        "no longer in the store",
    ]


def test_the_explorer_needs_neither_torch_nor_ray() -> None:
    sources = [path.read_text() for path in DASHBOARDS.rglob("*.py")]
    assert sources
    for name in ("torch", "ray", "transformers", "openTSNE", "sklearn"):
        assert not any(f"import {name}" in source or f"from {name}" in source for source in sources)
