"""The code map as Streamlit runs it: map, search, card, selection and address."""

import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from clinical_modernbert.artifacts import Store
from component import places
from panels.map_panel import write_area
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import (
    CODES_PER_CHAPTER,
    SEARCH_TERMS,
    PublishMap,
    area,
    code_table,
    marks,
    opened,
    sent,
    whole_table,
    words,
)

PAGE = "views/code_map.py"
# The right half of the map.
HALF = area([3], [32768, 0, 65535, 0, 65535, 65535, 32768, 65535])


@pytest.mark.parametrize("name", ["codes.parquet", "report.json"])
def test_a_damaged_file_is_named_and_not_shown(app: AppTest, store: Store, publish_map: PublishMap, name: str) -> None:
    artifact = publish_map()
    store.write_bytes(f"{artifact.prefix}/{name}", b"something else")
    opened(app, PAGE)
    assert "damaged" in app.error[0].value
    assert f"{name} differs from its manifest" in app.code[0].value
    assert not app.get("bidi_component")


def test_a_table_without_a_column_is_named(
    app: AppTest, publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.helpers.explorer_maps.code_table", lambda: code_table().drop_columns(["crosswalk"]))
    publish_map()
    opened(app, PAGE)
    assert "codes.parquet has no column crosswalk: it needs code, " in app.code[0].value


def test_a_report_without_a_figure_is_named(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(purity={"k": 10})
    opened(app, PAGE)
    assert "report.json" in app.code[0].value and "encoder" in app.code[0].value


def test_a_card_adds_its_code_and_is_closed(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, PAGE)
    app.session_state["map-row"] = 41
    app.run()
    app.button(key="card-add").click().run()
    assert "My list: 1 code" in words(app)
    assert app.button(key="card-add").disabled
    app.button(key="card-close").click().run()
    assert "Choose a code" in words(app)


def test_the_map_shows_every_chapter_and_where_it_comes_from(app: AppTest, publish_map: PublishMap) -> None:
    manifest = publish_map().manifest
    opened(app, PAGE)
    header, companion = sent(app)
    assert (header["count"], len(header["groups"])) == (420, 21)
    assert header["name"] == companion["name"]
    assert companion["texts"] == {}
    said = words(app)
    for fact in ("model `m-1`", manifest.fingerprint, manifest.created_at[:10], "420 ICD9CM codes"):
        assert fact in said
    assert "**trained in part on synthetic text (notes)**" in said
    on_picture = " ".join(header["provenance"])
    for fact in ("model m-1", manifest.fingerprint, "recipe map/tiny", manifest.created_at[:10], "not for care"):
        assert fact in on_picture
    assert not [box for box in app.selectbox if box.label == "Map"]


def test_purity_stands_beside_its_baselines(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(encoder=0.9)
    opened(app, PAGE)
    assert [metric.value for metric in app.metric] == ["90.0%", "30.0%", "60.0%", "5.0%"]
    assert len(app.warning) == 1


def test_a_model_that_learnt_nothing_is_called_so(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(encoder=0.4)
    opened(app, PAGE)
    assert app.warning[1].value == "This model is not better than: Shared words alone (TF-IDF)."


def test_the_whole_table_is_sent_for_the_search_once_and_compressed(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(of_codes=421)
    opened(app, PAGE)
    data = app.get("bidi_component")[0].proto.bytes
    length = int.from_bytes(data[:4], "little")
    found = json.loads(gzip.decompress(data[4 + length + 5 * 420 :]))
    assert found["table"]["codes"] == whole_table()["code"].to_pylist()
    assert found["table"]["rows"][-2:] == [419, None]
    assert found["table"]["others"][41] == ["Q101"]
    assert found["terms"] == SEARCH_TERMS
    header, _ = sent(app)
    assert {tuple(label[:2]) for label in header["labels"]} >= {("102-102 Organ 2", 0)}


def test_a_phrase_without_an_endpoint_says_what_to_do(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, PAGE)
    app.text_input(key="phrase").input("pain in the chest").run()
    assert "ENDPOINT_URL" in words(app)
    assert not app.dataframe


def test_a_chosen_code_shows_its_card_and_is_marked_with_its_nearest(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, PAGE)
    assert "Choose a code" in words(app)
    app.session_state["map-row"] = 41
    app.run()
    assert not app.exception
    said = words(app)
    assert app.header[0].value == "102.01"
    assert "Diabetic KIDNEY disease (type 2)" in said
    assert "102-102 Organ 2\n  102 Category" in said
    assert "Q10.1 (approximately)" in said
    assert "Held out" not in said
    nearest = app.dataframe[0].value
    assert nearest["code"].tolist() == [f"102.{n:02d}" for n in range(2, 12)]
    assert nearest["similarity"].tolist() == pytest.approx([1 - n / 100 for n in range(1, 11)])
    assert nearest["same chapter"].all()
    assert marks(app) == {"near": list(range(42, 52)), "chosen": [41]}
    app.session_state["map-row"] = 42
    app.run()
    assert "Held out" in words(app)
    assert "Counterparts" not in words(app)


def test_one_of_several_maps_is_chosen(app: AppTest, publish_map: PublishMap) -> None:
    ids = {publish_map(name).manifest.id for name in ("first", "second")}
    opened(app, PAGE)
    box = app.selectbox(key="map")
    assert len(box.options) == 2
    app.session_state["map-row"] = 42
    app.session_state["map-area"] = HALF
    other = (ids - {box.value}).pop()
    box.set_value(other).run()
    assert f"map `{other}`" in words(app)
    assert "Choose a code" in words(app)
    assert "Nothing is selected" in words(app)


def test_a_code_comes_along_to_another_map_of_its_table_alone(
    app: AppTest, store: Store, publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = (publish_map(name).manifest.id for name in ("first", "second"))
    other = publish_map("other", table="icd10cm").manifest.id
    opened(app, PAGE)
    app.selectbox(key="map").set_value(first).run()
    app.session_state["map-row"], app.session_state["map-area"] = 41, HALF
    app.run()
    app.selectbox(key="map").set_value(second).run()
    assert app.header[0].value == "102.01" and "Nothing is selected" in words(app)
    assert "area" not in app.query_params
    # 102.01 of the other version is another code.
    app.selectbox(key="map").set_value(other).run()
    assert "Choose a code" in words(app)
    app.selectbox(key="map").set_value(second).run()
    app.session_state["map-row"], app.session_state["map-area"] = 41, HALF
    app.run()
    # A map that is deleted while it is shown takes its area with it.
    shutil.rmtree(Path(store.uri.removeprefix("file://")) / "map" / second)
    monkeypatch.setattr("manifests.RELOAD_S", -1)
    app.run()
    assert not app.exception
    assert f"asks for `{second}`, which is not in this store" in words(app)
    assert "Nothing is selected" in words(app) and "area" not in app.query_params


def test_a_selection_is_explained_against_the_rest(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, PAGE)
    assert "Nothing is selected" in words(app)
    # All but the chapters 5 and up are hidden: chapters 0 to 4 are selected.
    app.session_state["map-area"] = area(list(range(5, 21)))
    app.run()
    assert not app.exception
    assert f"**{5 * CODES_PER_CHAPTER} codes**" in words(app)
    assert "Compared with 320 codes of everything else." in words(app)
    by_chapter, listed = (frame.value for frame in app.dataframe)
    assert by_chapter["in the group"].tolist()[:5] == [20] * 5
    assert by_chapter["share"].tolist()[:5] == [0.2] * 5
    assert "Nothing beyond chance" in words(app)  # every description has the same words
    assert len(listed) == 100
    app.selectbox(key="map-against").set_value(
        "Diseases of the 7th organ and of whatever else stands in so long a name"
    )
    app.run()
    assert "Compared with 20 codes of Diseases of the 7th organ" in words(app)


def test_the_address_brings_code_and_area_back_and_holds_nothing_typed(app: AppTest, publish_map: PublishMap) -> None:
    map_id = publish_map().manifest.id
    app.query_params["code"] = "102.01"
    app.query_params["area"] = write_area(HALF)
    app.run()
    assert not app.exception
    assert app.header[0].value == "102.01"
    x = code_table()["x"].to_numpy()
    placed = places(x, code_table()["y"].to_numpy())[:, 0]
    inside = (placed > 32768) & (placed < 65535) & (np.arange(420) // CODES_PER_CHAPTER != 3)
    assert f"**{inside.sum()} codes**" in words(app)
    assert sent(app)[1]["area"] == {**HALF, "turn": 0}
    app.text_input(key="phrase").input("kidney").run()
    assert app.query_params == {"map": map_id, "code": "102.01", "area": write_area(HALF)}
    app.session_state["map-row"] = app.session_state["map-area"] = None
    app.run()
    assert set(app.query_params) == {"map"}


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"code": "no such"}, "names the code `no such`, which is not on this map"),
        ({"area": "????"}, "selected area cannot be read"),
        (
            {"map": "gone-1", "code": "102.01", "area": write_area(HALF)},
            "asks for `gone-1`, which is not in this store",
        ),
        ({"map": "![x](//e/x) `[in](//e)`\n# t"}, "asks for `![x](//e/x) '[in](//e)' # t`, which is not in this store"),
    ],
)
def test_a_link_to_what_is_absent_says_so_and_carries_nothing_over(
    app: AppTest, publish_map: PublishMap, address: dict[str, str], said: str
) -> None:
    publish_map("first")
    publish_map("second")
    for name, value in address.items():
        app.query_params[name] = value
    app.run()
    assert not app.exception
    assert said in words(app)
    assert "Choose a code" in words(app)
    assert "Nothing is selected" in words(app)
    assert not {"code", "area"} & set(app.query_params)
    app.button(key="map-absent-close").click().run()
    assert said not in words(app)


def test_a_sample_is_called_one_wherever_it_is_counted(app: AppTest, publish_map: PublishMap) -> None:
    publish_map(of_codes=14567)
    opened(app, PAGE)
    assert "420 of 14,567, drawn at random, ICD9CM codes" in words(app)
    header, _ = sent(app)
    assert "420 of 14,567, drawn at random" in header["label"]
    assert "420 of 14,567, drawn at random" in header["provenance"]


@pytest.mark.parametrize("deleted", ["corpus/c-1", "model/m-1"])
def test_the_note_about_synthetic_text_survives_its_inputs(
    app: AppTest, store: Store, publish_map: PublishMap, deleted: str
) -> None:
    publish_map("kept", synthetic_sources=["notes"])
    store.delete(f"{deleted}/manifest.json")
    opened(app, PAGE)
    assert "trained in part on synthetic text (notes)" in words(app)


def test_where_nobody_knows_of_synthetic_text_the_page_says_so(
    app: AppTest, store: Store, publish_map: PublishMap
) -> None:
    publish_map()
    store.delete("corpus/c-1/manifest.json")
    opened(app, PAGE)
    assert "no longer in the store, so synthetic text cannot be ruled out" in words(app)


@pytest.mark.parametrize("page", [PAGE, "views/compare.py"])
def test_a_map_of_another_format_is_named_and_left_out(
    app: AppTest, store: Store, publish_map: PublishMap, page: str
) -> None:
    old = publish_map("old").manifest.id
    manifest = json.loads(store.read_bytes(f"map/{old}/manifest.json"))
    store.write_bytes(f"map/{old}/manifest.json", json.dumps({**manifest, "format_version": 1}).encode())
    publish_map("first")
    publish_map("second")
    opened(app, page)
    assert f"another version of the platform wrote them: {old}" in words(app)
    assert old not in json.dumps([box.options for box in app.selectbox])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_places_that_are_no_numbers_are_named(
    app: AppTest, publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    codes = code_table()
    x = codes["x"].to_numpy().copy()
    x[3] = wrong
    changed = codes.set_column(codes.column_names.index("x"), "x", pa.array(x))
    monkeypatch.setattr("tests.helpers.explorer_maps.code_table", lambda: changed)
    monkeypatch.setattr("tests.helpers.explorer_maps.map_labels", lambda paths, xy: [])
    publish_map()
    opened(app, PAGE)
    assert "places that are not finite numbers" in app.code[0].value
    assert not app.get("bidi_component")
