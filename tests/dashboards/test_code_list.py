"""The user's list of codes: added to, undone, mapped, and shown with its files."""

import pytest
from clinical_modernbert.artifacts import Store
from panels.code_list import mapped_codes
from streamlit.testing.v1 import AppTest

from tests.helpers.explorer_page import PublishMap, opened, whole_table, words

PAGE = "views/code_map.py"


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
        from panels.code_list import add_codes, listed_codes, remove_codes, undo

        for number in range(25):
            add_codes("icd9cm", [f"{number:03d}", "000"])
        add_codes("icd9cm", ["000"])  # changes nothing: no step
        remove_codes("icd9cm", ["003", "004"])
        st.text(" ".join(listed_codes("icd9cm")))
        undo("icd9cm")
        st.text(len(listed_codes("icd9cm")))
        for _ in range(40):
            undo("icd9cm")
        st.text(len(listed_codes("icd9cm")))

    app = AppTest.from_function(page).run()
    assert not app.exception
    first, second, third = (text.value for text in app.text)
    assert first.split()[:5] == ["000", "001", "002", "005", "006"]
    assert (second, third) == ("25", "0")


def test_the_page_shows_the_list_and_takes_codes_off(app: AppTest, store: Store, publish_map: PublishMap) -> None:
    publish_map(of_codes=421)
    opened(app, PAGE)
    assert "My list: 0 codes" in words(app)
    # A code that the sample left out is on the list like any other.
    app.session_state["list-icd9cm"] = [(), ("102.01", "999.9")]
    app.run()
    assert not app.exception
    assert "My list: 2 codes" in words(app)
    listed = next(frame.value for frame in app.dataframe if "counterpart" not in frame.value)
    assert listed["code"].tolist() == ["102.01", "999.9"]
    app.button(key="list-undo").click().run()
    assert "My list: 0 codes" in words(app)


@pytest.mark.parametrize("entries", [[41, 420], [41, -1, 421, 10**6, 420]])
def test_entries_of_the_browser_are_codes_of_the_whole_table(entries: list[int]) -> None:
    def page(entries: list[int]) -> None:
        import streamlit as st
        from panels.code_list import listed_codes
        from panels.map_table import add_entries

        from tests.helpers.explorer_page import whole_table

        add_entries(whole_table(), "icd9cm", entries)
        st.text(" ".join(listed_codes("icd9cm")))

    app = AppTest.from_function(page, args=(entries,)).run()
    assert app.text[0].value == "102.01 999.9"
