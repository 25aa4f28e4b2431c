"""Contrast, names and roles of every map page by axe-core (WCAG 2.2 A and AA), and the way through a page by keyboard."""

from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.dashboards.conftest import PublishMap
from tests.dashboards.test_browser import Watched, address, chromium, map_of, watched
from tools.fetch_axe import AXE_PATH

__all__ = ["address", "chromium", "watched"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]
_LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
# Streamlit's own menu with headings puts div elements into its list: nothing here can change that.
_STREAMLITS_MENU = {"list", "listitem"}


@pytest.fixture
def axe() -> str:
    if not AXE_PATH.is_file():
        pytest.skip("no axe-core in .tools: `make test` fetches it where npm is installed")
    return AXE_PATH.read_text(encoding="utf-8")


def violations(page: Page, axe: str) -> list[tuple[str, Any, str]]:
    page.evaluate(axe)
    found = page.evaluate("levels => axe.run(document, {runOnly: levels})", _LEVELS)
    return [
        (rule["id"], node["target"], node["failureSummary"])
        for rule in found["violations"]
        for node in rule["nodes"]
        if not (rule["id"] in _STREAMLITS_MENU and page.locator("[data-testid=stSidebarNavItems]").count())
    ]


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
