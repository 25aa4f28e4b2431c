"""Contrast, names and roles of every map page by axe-core (WCAG 2.2 A and AA), and the way through a page by keyboard."""

import pytest
from playwright.sync_api import expect

from tests.helpers.explorer_browser import Watched, map_of, violations
from tests.helpers.explorer_page import PublishMap

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.mark.parametrize("path", ["", "compare"])
def test_axe_finds_nothing(watched: Watched, address: str, publish_map: PublishMap, axe: str, path: str) -> None:
    publish_map("first")
    publish_map("second")
    page = watched.page
    page.goto(f"{address}/{path}?code=102.01")
    shown = map_of(page)
    shown.get_by_role("button", name="Select shown").click()
    expect(page.get_by_text("420 codes", exact=True)).to_be_visible()
    page.wait_for_timeout(500)
    assert violations(page, axe) == []


def test_the_tab_key_leads_through_tools_map_and_legend(
    watched: Watched, address: str, publish_map: PublishMap
) -> None:
    publish_map()
    page = watched.page
    page.goto(address)
    map_of(page).get_by_role("button", name="Save picture").focus()
    reached = []
    for _ in range(4):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.shadowRoot.activeElement.className"))
    assert reached == ["stage", "all", "group", "only"]
    page.keyboard.press("Enter")
    expect(map_of(page).locator(".status")).to_have_text("20 of 420 codes shown")
