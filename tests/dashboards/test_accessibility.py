"""Two maps in a real browser: contrast, names and roles of the map pages by axe-core (WCAG 2.2 A and AA), the way by keyboard,
and the page that compares them.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store, open_store
from playwright.sync_api import expect

from tests.helpers.explorer_browser import Watched, map_of, running_explorer, spot, violations
from tests.helpers.explorer_maps import map_publisher
from tests.helpers.explorer_page import CODES_PER_CHAPTER

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with two maps."""
    store = open_store(f"file://{tmp_path_factory.mktemp('store')}")
    publish = map_publisher(store, tmp_path_factory.mktemp("made"))
    publish("first")
    publish("second")
    return store


@pytest.fixture(scope="module")
def address(store: Store, repository: Path) -> Iterator[str]:
    with running_explorer(store, repository) as address:
        yield address


@pytest.mark.parametrize("path", ["", "compare"])
def test_axe_finds_nothing(watched: Watched, address: str, axe: str, path: str) -> None:
    page = watched.page
    page.goto(f"{address}/{path}?code=102.01")
    shown = map_of(page)
    shown.get_by_role("button", name="Select shown").click()
    expect(page.get_by_text("420 codes", exact=True)).to_be_visible()
    page.wait_for_timeout(500)
    assert violations(page, axe) == []


def test_the_tab_key_leads_through_tools_map_and_legend(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    map_of(page).get_by_role("button", name="Save picture").focus()
    reached = []
    for key in ("ArrowLeft", "Tab", "Tab", "ArrowDown", "ArrowRight"):
        page.keyboard.press(key)
        reached.append(page.evaluate("document.activeElement.shadowRoot.activeElement.className"))
    assert reached == ["density", "stage", "all", "group", "only"]
    page.keyboard.press("Enter")
    expect(map_of(page).locator(".status")).to_have_text("20 of 420 codes shown")
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("Shift+Tab")
    assert page.evaluate("document.activeElement.shadowRoot.activeElement.className") == "density"


def test_two_models_in_a_browser(watched: Watched, address: str) -> None:
    page = watched.page
    # By the menu: a page opened by its own address lets Streamlit look for its server's base path first, with two answers 404.
    page.goto(address)
    page.get_by_role("link", name="Compare").click()
    expect(page.get_by_role("heading", name="Compare", exact=True)).to_be_visible()
    left, right = (page.locator(".map[data-drawn]").nth(side) for side in (0, 1))
    expect(right).to_be_visible()
    # The legend of the one filters the other, and so does a selection.
    page.get_by_role("button", name="Show only 107-107").click()
    expect(right.locator(".status")).to_have_text("20 of 420 codes shown")
    left.get_by_role("button", name="Select shown").click()
    expect(right.locator(".status")).to_have_text("20 of 420 codes shown, 20 selected")
    expect(page.get_by_text("20 codes", exact=True)).to_be_visible()
    place = spot(left, 7 * CODES_PER_CHAPTER)
    page.mouse.move(*place)
    expect(left.locator(".tip")).to_contain_text("Finding 14")
    page.mouse.click(*place)
    expect(page.get_by_text("Nearest to 107.")).to_have_count(2)
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    expect(page.get_by_role("heading", name="What moved most")).to_be_visible()
    page.wait_for_timeout(1000)
    # A table that shows the first rows only offers no file of them.
    cut = page.locator(".st-key-cut-compare-moved")
    cut.locator("[data-testid=stDataFrame]").hover()
    expect(cut.locator("[data-testid=stElementToolbar]")).to_be_hidden()
    # A line that is chosen there brings the maps into view.
    page.set_viewport_size({"width": 1500, "height": 600})
    cut.evaluate("table => table.scrollIntoView()")
    expect(left.locator(".stage")).not_to_be_in_viewport()
    cut.locator("[data-testid=stDataFrame]").click(position={"x": 15, "y": 55})
    expect(left.locator(".stage")).to_be_in_viewport()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Provenance").click()
    head = waiting.value.path().read_text().splitlines()[:3]
    assert {line.split("-")[0] for line in head[1:]} == {"map first", "map second"}
    assert watched.elsewhere == []
    assert watched.errors == []
