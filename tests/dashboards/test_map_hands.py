"""Hands on a map in a real browser: areas that add and subtract, undo, wheel, touch, density, dark pages and pictures."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Store, open_store
from PIL import Image
from playwright.sync_api import Locator, Page, expect

from tests.helpers.explorer_browser import Watched, browsing, lasso, map_of, running_explorer, spot, violations
from tests.helpers.explorer_maps import map_publisher
from tests.helpers.explorer_page import CODES_PER_CHAPTER

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    store = open_store(f"file://{tmp_path_factory.mktemp('store')}")
    map_publisher(store, tmp_path_factory.mktemp("made"))()
    return store


@pytest.fixture(scope="module")
def address(store: Store, repository: Path) -> Iterator[str]:
    with running_explorer(store, repository) as address:
        yield address


def chapter(shown: Locator, number: int) -> tuple[float, float]:
    rows = range(number * CODES_PER_CHAPTER, (number + 1) * CODES_PER_CHAPTER)
    x, y = np.mean([spot(shown, row) for row in rows], axis=0)
    return float(x), float(y)


def selected(shown: Locator) -> int:
    found = re.search(r"([\d,]+) selected", shown.locator(".status").inner_text())
    return int(found[1].replace(",", "")) if found else 0


def scrolled(page: Page) -> float:
    return float(page.locator("[data-testid=stMain]").evaluate("main => main.scrollTop"))


def zoomed(shown: Locator) -> float:
    return float(shown.get_attribute("data-zoom") or 0)


def test_shift_adds_alt_subtracts_and_undo_goes_back(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    shown = map_of(page)
    counts = []
    for number, key in ((2, None), (7, "Shift"), (7, "Alt")):
        if key:
            page.keyboard.down(key)
        lasso(page, chapter(shown, number), radius=45, press=key is None)
        if key:
            page.keyboard.up(key)
        counts.append(selected(shown))
    first, both, back = counts
    assert 10 <= first == back < both
    expect(page.get_by_text(f"{first} codes", exact=True)).to_be_visible()  # the server counts the same
    shown.get_by_role("button", name="Undo").click()
    expect(shown.locator(".status")).to_contain_text(f"{both} selected")
    expect(page.get_by_text(f"{both} codes", exact=True)).to_be_visible()
    shown.locator(".stage").focus()
    page.keyboard.press("Control+z")
    expect(shown.locator(".status")).to_contain_text(f"{first} selected")
    expect(page.get_by_text(f"{first} codes", exact=True)).to_be_visible()
    # The server writes the address, after the browser has drawn.
    page.wait_for_url(lambda url: "area=" in url and "~" not in url)
    # Without a modifier key: the button next to the lasso says what the next area does.
    button = shown.get_by_role("button", name="Lasso", exact=True)
    button.click()
    shown.get_by_role("button", name="The next area replaces").click()
    lasso(page, chapter(shown, 7), radius=45, press=False)
    expect(shown.locator(".status")).to_contain_text(f"{both} selected")
    expect(page.get_by_text(f"{both} codes", exact=True)).to_be_visible()
    page.wait_for_url(re.compile("area=[^&]+~a"))
    page.goto(page.url)
    expect(map_of(page).locator(".status")).to_contain_text(f"{both} selected")
    assert watched.errors == []


def test_wheel_and_keys_zoom_and_never_hold_the_page(watched: Watched, address: str) -> None:
    page = watched.page
    page.set_viewport_size({"width": 1366, "height": 768})
    page.goto(address)
    shown = map_of(page)
    place = chapter(shown, 7)
    page.mouse.move(*place)
    page.mouse.wheel(0, 300)
    page.wait_for_function("main => main.scrollTop > 100", arg=page.locator("[data-testid=stMain]").element_handle())
    assert zoomed(shown) == 1
    page.mouse.wheel(0, -1000)
    page.wait_for_timeout(500)
    assert scrolled(page) == 0
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    expect(shown).to_have_attribute("data-zoom", re.compile(r"1\.3"))
    box = shown.locator(".stage").bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + 5, box["y"] + 5)  # into the map, on no point
    page.mouse.wheel(0, -100)
    expect(shown).to_have_attribute("data-zoom", re.compile(r"1\.8"))
    assert scrolled(page) == 0
    # Out of the map and back: the page scrolls again.
    page.mouse.move(box["x"] + 5, box["y"] - 20)
    page.mouse.move(*place)
    page.mouse.wheel(0, 300)
    page.wait_for_function("main => main.scrollTop > 100", arg=page.locator("[data-testid=stMain]").element_handle())
    assert 1.7 < zoomed(shown) < 1.9
    # At the last step of the zoom the page scrolls too.
    page.mouse.wheel(0, -1000)
    page.wait_for_timeout(500)
    page.mouse.click(box["x"] + 5, box["y"] + 5)
    for _ in range(12):
        page.mouse.wheel(0, 100)
        page.wait_for_timeout(50)
    page.wait_for_function("main => main.scrollTop > 100", arg=page.locator("[data-testid=stMain]").element_handle())
    assert watched.errors == []


def test_one_finger_scrolls_the_page_and_two_move_and_zoom_the_map(chromium: str, address: str) -> None:
    with browsing(chromium, address, width=390, height=844, has_touch=True) as watched:
        page = watched.page
        page.goto(address)
        shown = map_of(page)
        box = shown.locator(".stage").bounding_box()
        assert box is not None
        x, y = box["x"] + box["width"] / 2, box["y"] + 150
        session = page.context.new_cdp_session(page)

        def touch(kind: str, *places: tuple[float, float]) -> None:
            points = [{"x": px, "y": py, "id": number} for number, (px, py) in enumerate(places)]
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
            page.wait_for_timeout(30)

        touch("touchStart", (x, y))
        for step in range(1, 11):
            touch("touchMove", (x, y - 20 * step))
        touch("touchEnd")
        page.wait_for_timeout(500)
        assert scrolled(page) > 100
        assert zoomed(shown) == 1
        page.locator("[data-testid=stMain]").evaluate("main => main.scrollTo(0, 0)")
        page.wait_for_timeout(300)
        touch("touchStart", (x - 40, y))
        touch("touchStart", (x - 40, y), (x + 40, y))
        for step in range(1, 11):
            touch("touchMove", (x - 40 - 4 * step, y), (x + 40 + 4 * step, y))
        touch("touchEnd")
        page.wait_for_timeout(300)
        assert 1.8 < zoomed(shown) < 2.2
        assert scrolled(page) == 0
        # A tap opens a card, as a click does.
        shown.get_by_role("button", name="Whole map").tap()  # the page scrolls down to it: below the legend on a phone
        page.locator("[data-testid=stMain]").evaluate("main => main.scrollTo(0, 0)")
        expect(shown).to_have_attribute("data-zoom", "1.00")
        page.touchscreen.tap(*spot(shown, 41))
        expect(page.get_by_role("heading", name="102.01")).to_be_visible()
        assert watched.errors == []


def pixels(shown: Locator, target: Path) -> np.ndarray:
    shown.page.wait_for_timeout(300)
    shown.locator(".stage").screenshot(path=target)
    return np.asarray(Image.open(target).convert("RGB")).astype(int)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_light_or_dark_as_the_browser_prefers(
    watched: Watched, address: str, axe: str, tmp_path: Path, scheme: str
) -> None:
    page = watched.page
    page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(address)
    shown = map_of(page)
    expect(shown).to_have_attribute("data-theme", scheme)
    behind = np.median(pixels(shown, tmp_path / "map.png"), axis=(0, 1))
    assert (behind.max() < 40) if scheme == "dark" else (behind.min() > 240)
    page.get_by_role("combobox", name="Search", exact=True).fill("finding")
    expect(shown.locator(".count")).to_contain_text("found")
    page.keyboard.press("ArrowDown")
    assert violations(page, axe) == []
    # A page that is open follows a change.
    other = {"light": "dark", "dark": "light"}[scheme]
    page.emulate_media(color_scheme=other)  # type: ignore[arg-type]
    expect(shown).to_have_attribute("data-theme", other)
    assert watched.errors == []


def test_pictures_are_dark_on_white_and_say_where_they_come_from(
    watched: Watched, address: str, tmp_path: Path
) -> None:
    page = watched.page
    page.emulate_media(color_scheme="dark")
    page.add_init_script("window.print = () => { top.printed = document.body.innerHTML; }")
    page.goto(address)
    shown = map_of(page)
    points = pixels(shown, tmp_path / "points.png")
    shown.get_by_role("button", name="Density").click()
    expect(shown.locator(".scale")).to_have_text(re.compile(r"at most \d+ codes in a hexagon"))
    assert np.abs(pixels(shown, tmp_path / "dense.png") - points).mean() > 2
    with page.expect_download() as waiting:
        shown.get_by_role("button", name="Save as SVG").click()
    assert "<use" not in waiting.value.path().read_text()
    shown.get_by_role("button", name="Density").click()
    page.mouse.move(*spot(shown, 41))  # its ring is in no picture
    with page.expect_download() as waiting:
        shown.get_by_role("button", name="Save as SVG").click()
    text = waiting.value.path().read_text()
    root = ET.fromstring(text)
    assert text.count("<use") == 420 and "<circle cx" not in text
    assert "Research use, not for care." in "".join(root.itertext())
    with page.expect_download() as waiting:
        shown.get_by_role("button", name="Save picture").click()
    picture = np.asarray(Image.open(waiting.value.path()).convert("RGB")).astype(int)
    assert picture.shape[1] >= 2000
    assert np.median(picture, axis=(0, 1)).min() == 255
    shown.get_by_role("button", name="Print").click()
    page.wait_for_function("window.printed")
    assert page.evaluate("window.printed").count("<use") == 420
    assert watched.errors == []
