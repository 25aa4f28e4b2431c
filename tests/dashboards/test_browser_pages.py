"""Corpus, runs, sweeps, evaluation, lineage and playground in a real browser with the network off: drawn, quiet, reachable."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Store, open_store
from numpy.typing import NDArray
from playwright.sync_api import Locator, Page, expect

from tests.helpers.explorer_browser import Watched, lasso, running_explorer, spot, violations
from tests.helpers.explorer_stores import fill_store, write_progress

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_TITLES = ("Try the model", "Evaluation", "Corpus", "Lineage", "Runs", "Sweeps")


@pytest.fixture(scope="module")
def full_store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """One store for all tests, of which one lets the running model train on."""
    store = open_store(f"file://{tmp_path_factory.mktemp('store')}")
    fill_store(store)
    return store


@pytest.fixture(scope="module")
def address(full_store: Store, repository: Path) -> Iterator[str]:
    with running_explorer(full_store, repository) as address:
        yield address


def settled(page: Page, title: str) -> None:
    expect(page.get_by_role("heading", name=title, exact=True)).to_be_visible()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    page.wait_for_timeout(500)


def choose_whole(page: Page) -> None:
    """Open the evaluation that has everything."""
    page.get_by_role("combobox").first.click()
    page.get_by_role("option").filter(has_text="whole-1").click()
    expect(page.get_by_role("heading", name="Figure 2: ICD-9 codes")).to_be_visible()
    expect(page.locator(".map[data-drawn]")).to_have_count(2)


def test_every_page_is_drawn_without_a_word_in_the_console(watched: Watched, address: str, axe: str) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_text("Researcher", exact=True).click()
    found = {}
    for title in _TITLES:
        page.get_by_role("link", name=title, exact=True).click()
        settled(page, title)
        if title == "Evaluation":
            choose_whole(page)
            settled(page, title)
        assert page.get_by_text("Research use, not for care.").is_visible()
        found[title] = violations(page, axe)
    assert watched.elsewhere == []
    assert watched.errors == []
    assert not any(found.values()), found


def test_an_evaluations_maps_are_linked_and_know_where_an_area_was_drawn(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    page.get_by_role("link", name="Evaluation", exact=True).click()
    settled(page, "Evaluation")
    choose_whole(page)
    first, second = (page.locator(".map[data-drawn]").nth(side) for side in (0, 1))
    expect(second.locator(".status")).to_have_text("420 of 420 codes shown")
    first.get_by_role("button", name="Show only 107-107").click()
    expect(second.locator(".status")).to_have_text("20 of 420 codes shown")

    # The second map stands on its head: around these corners the first map has no point of this chapter.
    # Centred, the map is in view together with its tools: a click on a tool must not scroll the places away.
    second.locator(".stage").evaluate("stage => stage.scrollIntoView({block: 'center'})")
    away = np.mean([spot(first, row) for row in range(140, 160)], axis=0) - _middle(first)
    group = _middle(second) - away
    lasso(page, tuple(group), radius=45, tools=second)
    expect(first.locator(".status")).to_contain_text("20 selected")
    expect(second.locator(".status")).to_contain_text("20 selected")
    expect(page.get_by_text("20 codes", exact=True)).to_be_visible()

    page.mouse.move(*group)
    expect(second.locator(".tip")).to_contain_text("Finding 1")
    page.mouse.down()
    page.mouse.up()
    expect(page.get_by_text("The chosen code")).to_be_visible()
    page.wait_for_timeout(500)
    expect(first.locator(".status")).to_contain_text("20 selected")

    # Coming back, an area of the first map is on the second too, which opens after it.
    first.get_by_role("button", name="Select shown").click()
    page.wait_for_timeout(500)
    page.get_by_role("link", name="Corpus", exact=True).click()
    settled(page, "Corpus")
    page.get_by_role("link", name="Evaluation", exact=True).click()
    settled(page, "Evaluation")
    choose_whole(page)
    for shown in (first, second):
        expect(shown.locator(".status")).to_have_text("20 of 420 codes shown, 20 selected")
    assert watched.elsewhere == []
    assert watched.errors == []


def _middle(shown: Locator) -> NDArray[np.float64]:
    box = shown.locator(".stage").bounding_box()
    assert box is not None
    return np.array([box["x"] + box["width"] / 2, box["y"] + box["height"] / 2])


def test_charts_are_drawn_and_a_live_run_moves_by_itself(watched: Watched, address: str, full_store: Store) -> None:
    page = watched.page
    page.goto(f"{address}/runs?mode=researcher")
    settled(page, "Runs")
    expect(page.locator("[data-testid=stVegaLiteChart] :is(canvas, svg)").first).to_be_visible()
    expect(page.get_by_text("step 40 of 200")).to_be_visible()
    write_progress(full_store, step=80)
    expect(page.get_by_text("step 80 of 200")).to_be_visible()


def test_a_clinicians_menu_holds_no_run_internals(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    expect(page.get_by_role("link", name="Evaluation", exact=True)).to_be_visible()
    expect(page.get_by_role("link", name="Runs", exact=True)).to_have_count(0)
    page.get_by_text("Researcher", exact=True).click()
    expect(page.get_by_role("link", name="Runs", exact=True)).to_be_visible()
    assert "mode=researcher" in page.url
