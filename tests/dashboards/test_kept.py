"""What a user chose goes along to other pages, is in the address, and comes back with a link."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import PublishMap, opened, words
from tests.helpers.explorer_stores import full_store, publish_corpus

__all__ = ["full_store"]
CODE_MAP, COMPARE = "views/code_map.py", "views/compare.py"


def test_code_and_map_go_to_compare_and_back(app: AppTest, publish_map: PublishMap) -> None:
    ids = [publish_map(name).manifest.id for name in ("first", "second", "third")]
    opened(app, CODE_MAP)
    app.selectbox(key="map").set_value(ids[1]).run()
    app.session_state["map-row"] = 41
    app.run()
    assert app.query_params["code"] == ["102.01"] or app.query_params["code"] == "102.01"
    app.switch_page(COMPARE).run()
    assert not app.exception
    assert words(app).count("Nearest to 102.01") == 2
    assert app.selectbox(key="compare-left").value == ids[1]
    app.session_state["compare-row"] = 63
    app.run()
    app.switch_page(CODE_MAP).run()
    assert not app.exception
    assert app.header[0].value == "103.03"
    assert app.selectbox(key="map").value == ids[1]


def test_a_code_goes_to_an_evaluations_maps_and_back(app: AppTest, full_store: Store) -> None:
    opened(app, "views/lineage.py")
    app.session_state["kept-code"], app.session_state["code-chosen-on"] = "102.01", "map"
    app.session_state["code-table"] = "icd9cm"
    app.switch_page("views/evaluation.py").run()
    app.selectbox(key="evaluation").set_value("whole-1").run()
    assert "102.01  Diabetic KIDNEY disease (type 2)" in words(app)
    assert app.query_params["code"] in ("102.01", ["102.01"])
    app.session_state["figure2-whole-1-row"] = 63
    app.run()
    assert app.session_state["kept-code"] == "103.03"


def test_a_code_that_the_other_page_lacks_is_said_to_be_absent(app: AppTest, publish_map: PublishMap) -> None:
    publish_map("first"), publish_map("second")
    opened(app, CODE_MAP)
    app.session_state["kept-code"], app.session_state["code-chosen-on"] = "999.9", "compare"
    app.session_state["code-table"] = "icd9cm"
    app.run()
    assert "You chose the code `999.9`, which is not on this map" in words(app)


@pytest.mark.parametrize("page", ["corpus", "sweep", "evaluation"])
def test_the_choice_of_an_artifact_is_kept_over_pages_and_in_the_address(
    app: AppTest, full_store: Store, tmp_path: Path, page: str
) -> None:
    publish_corpus(full_store, tmp_path / "full", artifact_id="other-1", more=1)
    path = f"views/{page}.py" if page != "sweep" else "views/sweeps.py"
    opened(app, path, mode="researcher")
    oldest = app.selectbox(key=page).options[-1].split(" (")[0]
    app.selectbox(key=page).set_value(oldest).run()
    assert oldest in app.query_params[page]
    app.switch_page("views/lineage.py").run()
    app.switch_page(path).run()
    assert app.selectbox(key=page).value == oldest
    assert oldest in app.query_params[page]


def test_runs_are_kept_and_linked(app: AppTest, full_store: Store) -> None:
    opened(app, "views/runs.py", mode="researcher")
    app.multiselect(key="runs").set_value(["second-1", "first-1"]).run()
    assert "second-1,first-1" in app.query_params["runs"]
    app.switch_page("views/lineage.py").run()
    app.switch_page("views/runs.py").run()
    assert app.multiselect(key="runs").value == ["second-1", "first-1"]


def test_a_link_to_an_absent_artifact_says_so(app: AppTest, full_store: Store) -> None:
    opened(app, "views/lineage.py", mode="researcher")
    app.query_params["artifact"] = "model/gone-1"
    app.run()
    assert "asks for `model/gone-1`, which is not in this store" in words(app)
    app.query_params["runs"] = "first-1,gone-1,gone-2"
    app.switch_page("views/runs.py").run()
    assert "asks for `gone-1`, `gone-2`, which are not in this store. The others are shown." in words(app)
    assert app.multiselect(key="runs").value == ["first-1"]
