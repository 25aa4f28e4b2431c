"""The user's list of codes: changed, undone, mapped, saved, opened by a link, compared, and shown with its files."""

import hashlib
import sys

import pytest
import streamlit as st
from clinical_modernbert.artifacts import Store
from clinical_modernbert.artifacts.layout import lists_prefix
from clinical_modernbert.errors import ArtifactError, UserError
from code_lists import CodeList, compared, list_ids, make_saved, read_list, save_list
from panels.code_list import mapped_codes
from panels.map_table import codes_of
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import DASHBOARDS, PublishMap, area, opened, whole_table, words

PAGE = "views/code_map.py"
KIDNEY = CodeList(("102.01", "102.02", "999.9"), frozenset({"102.02"}))


def test_an_excluded_code_stays_out_until_it_is_added_alone() -> None:
    listed = CodeList(("1", "2")).exclude(["2", "3"])
    assert (listed.codes, listed.included) == (("1", "2", "3"), ("1",))
    category = listed.include(["1", "2", "3", "4"])
    assert category.included == ("1", "4")
    assert category.include(["3"]).included == ("1", "3", "4")
    assert category.remove(["2", "1"]) == CodeList(("3", "4"), frozenset({"3"}))


def test_two_lists_are_compared_by_what_they_include() -> None:
    parts = compared(KIDNEY, CodeList(("102.02", "102.01", "5"), frozenset({"5"})))
    assert parts == {"both": ["102.01"], "first": ["999.9"], "second": ["102.02"]}


def test_a_saved_list_comes_back_whole_and_is_never_replaced(store: Store) -> None:
    saved = make_saved(KIDNEY, name="  kidney   disease", table="icd9cm", author="a@b.c", provenance=["map m-1"])
    first = save_list(store, saved)
    found = read_list(store, "icd9cm", first)
    assert found == saved and found.content == KIDNEY
    assert found.lines[0].startswith("'kidney disease', saved 20") and found.lines[0].endswith("UTC by a@b.c")
    changed = make_saved(KIDNEY.remove(["999.9"]), name="kidney disease", table="icd9cm", author="a@b.c", provenance=[])
    assert save_list(store, changed) != first
    assert len(list_ids(store, "icd9cm")) == 2
    assert list_ids(store, "icd10cm") == []
    with pytest.raises(KeyError):
        read_list(store, "icd9cm", "0" * 12)
    content = b'{"name": "x"}'
    other = hashlib.sha256(content).hexdigest()[:12]
    for list_id, said in ((other, "is not a saved list: table: "), ("1" * 12, "was changed after it was saved")):
        store.write_bytes(f"{lists_prefix('icd9cm')}/{list_id}.json", content)
        with pytest.raises(ArtifactError, match=rf"list/icd9cm/{list_id}\.json {said}"):
            read_list(store, "icd9cm", list_id)


@pytest.mark.parametrize("name", ["", "   ", "x" * 81, "a\x00b"])
def test_a_name_that_nobody_could_read_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"name: .* 1 to 80 printable ones are needed"):
        make_saved(KIDNEY, name=name, table="icd9cm", author="a", provenance=[])


def test_a_code_has_a_line_for_each_counterpart() -> None:
    lines = mapped_codes(whole_table().slice(40, 2)).to_pylist()
    assert [(line["code"], line["counterpart"], line["approximate"]) for line in lines] == [
        ("102.00", None, False),
        ("102.01", "Q10.1", True),
    ]
    assert mapped_codes(whole_table().slice(0, 0)).num_rows == 0


def test_steps_are_undone_one_by_one_and_twenty_are_kept() -> None:
    def page() -> None:
        import streamlit as st
        from panels.code_list import add_codes, current_list, exclude_codes, remove_codes, undo

        for number in range(25):
            add_codes("icd9cm", [f"{number:03d}", "000"])
        add_codes("icd9cm", ["000"])  # changes nothing: no step
        exclude_codes("icd9cm", ["001"])
        remove_codes("icd9cm", ["003", "004"])
        st.text(" ".join(current_list("icd9cm").included))
        undo("icd9cm")
        st.text(len(current_list("icd9cm").codes))
        for _ in range(40):
            undo("icd9cm")
        st.text(len(current_list("icd9cm").codes))

    app = AppTest.from_function(page).run()
    assert not app.exception
    first, second, third = (text.value for text in app.text)
    assert first.split()[:4] == ["000", "002", "005", "006"]
    assert (second, third) == ("25", "0")


def test_a_list_that_the_browser_kept_is_taken_by_a_session_without_one() -> None:
    def page() -> None:
        import streamlit as st
        from panels.code_list import current_list, restore_list, undo

        from tests.helpers.explorer_page import whole_table

        restore_list("icd9cm", whole_table(), ["102.01", "no code", "999.9"], ["999.9", "102.02"])
        restore_list("icd9cm", whole_table(), ["103.01"], [])  # a later answer of another tab's map changes nothing
        found = current_list("icd9cm")
        st.text(f"{found.codes} {sorted(found.excluded)}")
        undo("icd9cm")
        st.text(len(current_list("icd9cm").codes))

    app = AppTest.from_function(page).run()
    assert [text.value for text in app.text] == ["('102.01', '999.9') ['999.9']", "0"]


def with_list(app: AppTest, codes: CodeList) -> AppTest:
    app.session_state["list-icd9cm"] = [CodeList(), codes]
    app.run()
    assert not app.exception
    return app


def test_the_page_shows_the_list_and_takes_codes_off(app: AppTest, store: Store, publish_map: PublishMap) -> None:
    publish_map(of_codes=421)
    opened(app, PAGE)
    assert "My list: 0 codes" in words(app)
    # A code that the sample left out is on the list like any other.
    with_list(app, KIDNEY)
    assert "My list: 2 codes, 1 excluded" in words(app)
    listed = next(frame.value for frame in app.dataframe if "chapter_id" in frame.value)
    assert listed["code"].tolist() == list(KIDNEY.codes)
    assert listed["excluded"].tolist() == [False, True, False]
    mapped = next(frame.value for frame in app.dataframe if "counterpart" in frame.value)
    assert mapped["code"].tolist() == ["102.01", "999.9"]
    # Counterparts come to the list of the other version; a code of another year's table is named and kept.
    app.button(key="list-carry").click().run()
    assert app.session_state["list-icd10cm"][-1] == CodeList(("Q10.1",))
    app.button(key="list-undo").click().run()
    assert "My list: 0 codes" in words(app)
    with_list(app, CodeList(("102.01", "777.77")))
    assert "Not in the map's code table (1): 777.77" in words(app)
    assert "My list: 2 codes" in words(app)
    listed = next(frame.value for frame in app.dataframe if "chapter_id" in frame.value)
    assert listed["code"].tolist() == ["102.01", "777.77"]


def test_a_selected_group_is_added_or_excluded(app: AppTest, publish_map: PublishMap) -> None:
    publish_map()
    opened(app, PAGE)
    app.session_state["map-area"] = area(list(range(1, 21)))
    app.run()
    app.button(key="map-take").click().run()
    assert "My list: 20 codes" in words(app)
    app.button(key="map-leave").click().run()
    assert "My list: 0 codes, 20 excluded" in words(app)


def test_a_list_is_saved_with_its_author_and_its_link_opens_it(
    app: AppTest, store: Store, publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = publish_map()
    monkeypatch.setattr("panels.saved_lists.user_name", lambda headers: "doctor@ward.example")
    with_list(opened(app, PAGE), KIDNEY)
    app.button(key="list-save").click().run()
    assert "name: 0 characters" in words(app)
    app.text_input(key="list-name").set_value("Kidney disease").run()
    lines: list[tuple[str, str, str]] = []
    monkeypatch.setattr("panels.saved_lists.record", lambda event, *, who, what: lines.append((event, who, what)))
    app.button(key="list-save").click().run()
    (list_id,) = list_ids(store, "icd9cm")
    assert lines == [("save list", "doctor@ward.example", f"list/icd9cm/{list_id}")]
    saved = read_list(store, "icd9cm", list_id)
    assert (saved.name, saved.author, saved.content) == ("Kidney disease", "doctor@ward.example", KIDNEY)
    assert any(artifact.manifest.fingerprint in line for line in saved.provenance)
    link = f"icd9cm-{list_id}"
    assert link in app.query_params["list"]

    # Another session opens it, with its provenance, and a changed list is not the linked one.
    st.cache_resource.clear()
    other = AppTest.from_file(str(DASHBOARDS / "explorer.py"), default_timeout=30)
    other.query_params["list"] = link
    other.run()
    assert "My list: 2 codes, 1 excluded" in words(other)
    assert link in other.query_params["list"]
    other.selectbox(key="list-saved").select(list_id).run()
    assert "saved 20" in words(other) and "by doctor@ward.example" in words(other)
    assert "2 codes on both, 0 on mine only, 0 on the saved one only" in words(other)
    other.button(key="list-clear").click().run()
    assert "list" not in other.query_params
    other.button(key="list-open").click().run()
    assert "My list: 2 codes, 1 excluded" in words(other)


@pytest.mark.parametrize(
    ("link", "said"),
    [
        ("icd9cm-000000000000", "a saved list that is not in this store"),
        ("icd9cm-../../model/m", "a saved list that is not in this store"),
        ("icd11-000000000000", "a saved list that is not in this store"),
    ],
)
def test_a_link_to_an_absent_list_says_so(app: AppTest, publish_map: PublishMap, link: str, said: str) -> None:
    publish_map()
    app.query_params["list"] = link
    app.run()
    assert not app.exception
    assert said in words(app)
    assert "list" not in app.query_params


def test_a_list_of_the_other_version_and_a_damaged_one_are_said_so(
    app: AppTest, store: Store, publish_map: PublishMap
) -> None:
    publish_map()
    saved = make_saved(CodeList(("E11.9",)), name="x", table="icd10cm", author="a", provenance=[])
    store.write_bytes(f"{lists_prefix('icd9cm')}/{'1' * 12}.json", b"{")
    app.query_params["list"] = f"icd10cm-{save_list(store, saved)}"
    app.run()
    assert "The link's list is of ICD-10-CM codes" in words(app)
    assert "list/icd9cm/111111111111.json was changed" in words(app)


def test_without_a_name_or_a_right_nothing_is_saved(
    app: AppTest, store: Store, publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish_map()
    monkeypatch.setattr("panels.saved_lists.user_name", lambda headers: None)
    with_list(opened(app, PAGE), KIDNEY)
    assert "Lists are saved for logged-in users" in words(app)
    monkeypatch.undo()
    monkeypatch.setattr(sys, "argv", ["dashboards/explorer.py", "--root", store.uri])

    def refused(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("panels.saved_lists.save_list", refused)
    app.run()
    app.text_input(key="list-name").set_value("x").run()
    app.button(key="list-save").click().run()
    assert "needs the right to write `list/`" in words(app)
    assert list_ids(store, "icd9cm") == []


def test_entries_of_the_browser_are_codes_of_the_whole_table() -> None:
    assert codes_of(whole_table(), [41, 420]) == ["102.01", "999.9"]
    assert codes_of(whole_table(), [41, -1, 421, 10**6, 420]) == ["102.01", "999.9"]
