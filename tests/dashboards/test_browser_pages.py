"""Corpus, runs, sweeps, evaluation, lineage and playground in a real browser with the network off: drawn, quiet, reachable."""

from pathlib import Path

import pytest
from clinical_modernbert.artifacts import Store
from playwright.sync_api import Page, expect

from tests.dashboards.stores import full_store, write_progress
from tests.dashboards.test_accessibility import axe, violations
from tests.dashboards.test_browser import Watched, address, chromium, watched

__all__ = ["address", "axe", "chromium", "full_store", "watched"]
pytestmark = [pytest.mark.browser, pytest.mark.slow]
_TITLES = ("Try the model", "Evaluation", "Corpus", "Lineage", "Runs", "Sweeps")


def settled(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    page.wait_for_timeout(500)


def test_every_page_is_drawn_without_a_word_in_the_console(
    watched: Watched, address: str, full_store: Store, axe: str, tmp_path: Path
) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_text("Researcher", exact=True).click()
    found = {}
    for title in _TITLES:
        page.get_by_role("link", name=title, exact=True).click()
        settled(page, title)
        page.screenshot(path=tmp_path / f"{title}.png", full_page=True)
        assert page.get_by_text("Research use, not for care.").is_visible()
        found[title] = violations(page, axe)
    assert watched.elsewhere == []
    assert watched.errors == []
    assert not any(found.values()), found


def test_charts_are_drawn_and_a_live_run_moves_by_itself(watched: Watched, address: str, full_store: Store) -> None:
    page = watched.page
    page.goto(f"{address}/runs?mode=researcher")
    settled(page, "Runs")
    expect(page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first).to_be_visible()
    expect(page.get_by_text("step 40 of 200")).to_be_visible()
    write_progress(full_store, step=80)
    expect(page.get_by_text("step 80 of 200")).to_be_visible()


def test_a_clinicians_menu_holds_no_run_internals(watched: Watched, address: str, full_store: Store) -> None:
    page = watched.page
    page.goto(address)
    expect(page.get_by_role("link", name="Evaluation", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Runs", exact=True)).to_have_count(0)
    page.get_by_text("Researcher", exact=True).click()
    expect(page.get_by_role("link", name="Runs", exact=True)).to_be_visible()
    assert "mode=researcher" in page.url
