"""From a phrase to a list in a file, as a clinician does it on the real ICD-9-CM: by mouse at four sizes, and by keyboard."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from clinical_modernbert.artifacts import Store, open_store
from clinical_modernbert.sources import code_table
from playwright.sync_api import Browser, Locator, Page, expect

from tests.helpers.explorer_browser import Watched, launched, map_of, running_explorer, violations, visiting
from tests.helpers.real_map import publish_real_map

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_SIZES: dict[str, dict[str, Any]] = {
    "laptop": {"width": 1366, "height": 768},
    "desktop": {"width": 1920, "height": 1080},
    "phone": {"width": 390, "height": 844, "has_touch": True, "device_scale_factor": 3},
    "zoomed": {"width": 683, "height": 384, "device_scale_factor": 2},  # the laptop at 200 %
}
_MOST_STOPS = 12


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, repository: Path) -> Iterator[str]:
    store: Store = open_store(f"file://{tmp_path_factory.mktemp('store')}")
    publish_real_map(store, tmp_path_factory.mktemp("scratch"))
    with running_explorer(store, repository) as address:
        yield address


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    with launched(chromium) as browser:
        yield browser


@pytest.fixture
def watched(request: pytest.FixtureRequest, browser: Browser, address: str) -> Iterator[Watched]:
    with visiting(browser, address, **_SIZES[request.param]) as watched:
        watched.page.goto(address)
        yield watched


def in_view(part: Locator) -> float:
    """The share of an element that the screen shows."""
    return float(
        part.evaluate(
            """async (part) => (await new Promise((tell) => new IntersectionObserver(([seen], watch) => {
              watch.disconnect(); tell(seen); }).observe(part))).intersectionRatio"""
        )
    )


def search_box(page: Page) -> Locator:
    return page.get_by_role("combobox", name="Search", exact=True)


def is_on_the_first_screen(page: Page, shown: Locator) -> None:
    assert in_view(page.get_by_text("Research use, not for care.")) > 0.9
    assert in_view(search_box(page)) == 1
    assert in_view(shown.locator(".stage")) > 0.55
    title = page.get_by_role("heading", name="Code map", exact=True)
    assert title.evaluate("h => { const r = h.getBoundingClientRect();\n"
                          "return h.contains(document.elementFromPoint(r.left + 5, r.top + r.height / 2)); }")  # fmt: skip


def tops(shown: Locator, *names: str) -> list[float]:
    return [float(shown.locator(f".{name}").evaluate("e => e.getBoundingClientRect().top")) for name in names]


def is_answered(page: Page, shown: Locator) -> None:
    """Synonym in bold, codes ringed and zoomed to; box, map and results in view."""
    expect(shown.locator(".about b").first).to_have_text("“heart attack”")
    expect(shown.locator(".about")).to_contain_text("myocardial infarction", ignore_case=True)
    assert shown.locator(".about b").first.evaluate("b => Number(getComputedStyle(b).fontWeight)") >= 600
    count = int(shown.locator(".count").inner_text().split()[0])
    expect(shown).to_have_attribute("data-ringed", str(count))
    page.wait_for_function("map => Number(map.dataset.zoom) > 2", arg=shown.element_handle())
    assert in_view(search_box(page)) == 1
    assert in_view(shown.locator(".stage")) > 0.55
    assert in_view(shown.locator(".results")) > 0.55
    assert in_view(shown.locator(".hit:not(.heading)").first) == 1


def infarctions() -> list[str]:
    return [entry.code for entry in code_table("icd9cm") if entry.code.startswith("410")]


@pytest.mark.parametrize("watched", _SIZES, indirect=True)
def test_by_mouse(watched: Watched) -> None:
    page = watched.page
    shown = map_of(page)
    is_on_the_first_screen(page, shown)
    if page.evaluate("matchMedia('(pointer: coarse)').matches"):
        expect(search_box(page)).not_to_be_focused()  # a keyboard on the screen would cover the map
    search_box(page).click()
    page.keyboard.type("heart attack", delay=30)
    is_answered(page, shown)
    small = (page.viewport_size or {})["width"] < 700
    places = tops(shown, *("find", "stage", "bar", "legend") if small else ("find", "bar", "stage"))
    assert places == sorted(places)
    shown.locator(".hit:not(.heading)").first.click()
    expect(page.get_by_role("heading", name="410.", exact=False).first).to_be_in_viewport()
    if (page.viewport_size or {})["width"] < 640:  # the card is a sheet over the page
        in_order = tops(shown, "stage", "bar", "results", "legend")
        assert in_order == sorted(in_order)
        page.get_by_role("button", name="Close", exact=True).click()
        expect(page.get_by_text("Choose a code")).to_be_visible()
    shown.get_by_title("Add 410 and all").click()
    mine = shown.get_by_role("button", name=f"My list: {len(infarctions())}")
    expect(mine).to_be_visible()
    mine.click()
    button = page.locator(".st-key-my-list").get_by_role("button", name="Codes only")
    expect(button).to_be_in_viewport()
    with page.expect_download() as waiting:
        button.click()
    assert waiting.value.path().read_text().splitlines() == infarctions()
    assert watched.sent("heart attack") == 0
    assert watched.elsewhere == []
    assert watched.errors == []


_STROKES_OF_A_HOVER = """stage => {
  let strokes = 0;
  const stroke = CanvasRenderingContext2D.prototype.stroke;
  CanvasRenderingContext2D.prototype.stroke = function (...shape) { strokes++; return stroke.apply(this, shape); };
  const { left, top, width, height } = stage.getBoundingClientRect();
  for (let i = 1; i < 100; i++) {
    const place = { clientX: left + (width * i) / 100, clientY: top + (height * i) / 100 };
    stage.dispatchEvent(new PointerEvent("pointermove", { ...place, pointerType: "mouse", bubbles: true }));
  }
  CanvasRenderingContext2D.prototype.stroke = stroke;
  return strokes;
}"""


@pytest.mark.parametrize("watched", ["laptop"], indirect=True)
def test_many_found_codes_are_not_drawn_again_by_each_hover(watched: Watched) -> None:
    shown = map_of(watched.page)
    search_box(watched.page).fill("fracture")
    expect(shown.locator(".count")).to_have_text(re.compile(r"\d{3} found"))
    expect(shown).to_have_attribute("data-ringed", "0")
    # Two strokes for the point under the pointer, at each of 99 places at most.
    assert 0 < shown.locator(".stage").evaluate(_STROKES_OF_A_HOVER) <= 198


@pytest.mark.parametrize("watched", _SIZES, indirect=True)
def test_by_keyboard(watched: Watched, axe: str) -> None:
    page = watched.page
    shown = map_of(page)
    stops = 0
    focused = "() => { let at = document.activeElement; while (at?.shadowRoot?.activeElement) at = at.shadowRoot.activeElement; "
    focused += "return `${at.id} ${at.className} ${at.innerText}`; }"

    def until(what: str) -> None:
        nonlocal stops
        while what not in page.evaluate(focused):
            page.keyboard.press("Tab")
            stops += 1
            assert stops <= _MOST_STOPS, page.evaluate(focused)

    if not page.evaluate("matchMedia('(pointer: coarse)').matches"):
        expect(search_box(page)).to_be_focused()
        page.keyboard.press("Tab")
    page.keyboard.press("Control+k")
    expect(search_box(page)).to_be_focused()
    page.keyboard.type("heart attack", delay=30)
    is_answered(page, shown)
    assert violations(page, axe) == []
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="410.", exact=False).first).to_be_visible()
    expect(shown.locator(".said")).to_contain_text("The card of")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Control+Enter")
    expect(shown.get_by_role("button", name=f"My list: {len(infarctions())}")).to_be_visible()
    expect(shown.locator(".said")).to_have_text(f"{len(infarctions())} codes are on your list")
    until("mine")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"My list: {len(infarctions())} codes")).to_be_focused()
    # The heading comes first; where the server is slow, the buttons below it come later and leave the focus where it is.
    expect(page.locator(".st-key-my-list").get_by_role("button", name="Codes only")).to_be_visible()
    until("Codes only")
    with page.expect_download() as waiting:
        page.keyboard.press("Enter")
    assert waiting.value.path().read_text().splitlines() == infarctions()
    assert stops < _MOST_STOPS
    assert watched.errors == []
