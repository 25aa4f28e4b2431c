"""The explorer in a real browser: it draws, it answers clicks and searches, and it asks no other machine for anything."""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from clinical_modernbert.artifacts import Artifact, Store, open_store
from component import COLOURS
from PIL import Image
from playwright.sync_api import Locator, expect, sync_playwright

from tests.helpers.explorer_browser import Watched, lasso, map_of, running_explorer, spot
from tests.helpers.explorer_maps import map_publisher
from tests.helpers.explorer_page import CODES_PER_CHAPTER, code_table

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return open_store(f"file://{tmp_path_factory.mktemp('store')}")


@pytest.fixture(scope="module")
def artifact(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """The one map of the store: of 420 of its table's 421 codes."""
    return map_publisher(store, tmp_path_factory.mktemp("made"))(of_codes=421)


@pytest.fixture(scope="module")
def address(store: Store, artifact: Artifact, repository: Path) -> Iterator[str]:
    with running_explorer(store, repository) as address:
        yield address


def drawn_colours(shown: Locator, target: Path) -> set[str]:
    """The colours of the palette that the map shows, black apart, with at least 20 pixels each."""
    shown.page.wait_for_timeout(300)
    shown.locator(".stage").screenshot(path=target)
    pixels = 255.0 - np.asarray(Image.open(target).convert("RGB")).reshape(-1, 3)
    strong = pixels[np.ptp(pixels, axis=1) > 80]
    # A faint point on white lies between white and its colour: what counts is the direction from white.
    ways = 255.0 - np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in COLOURS])
    unit = [values / np.linalg.norm(values, axis=1, keepdims=True) for values in (strong, ways)]
    counts = np.bincount((unit[0] @ unit[1].T).argmax(axis=1), minlength=len(COLOURS))
    return {colour for colour, count in zip(COLOURS, counts, strict=True) if count >= 20}


def test_the_map_in_a_browser(watched: Watched, address: str, artifact: Artifact, tmp_path: Path) -> None:
    page = watched.page
    page.goto(address)
    expect(page.get_by_role("heading", name="Code map")).to_be_visible()
    expect(page.get_by_text("Research use, not for care.")).to_be_visible()
    expect(page.get_by_text(artifact.manifest.fingerprint).first).to_be_visible()
    shown = map_of(page)
    expect(shown.locator(".status")).to_have_text("420 of 420 codes shown")
    assert drawn_colours(shown, tmp_path / "map.png") >= {*COLOURS} - {"#000000"}
    assert shown.locator(".groups > div").count() == 21

    # The legend filters without the server.
    page.get_by_role("button", name="Show only 102-102").click()
    expect(shown.locator(".status")).to_have_text("20 of 420 codes shown")
    assert drawn_colours(shown, tmp_path / "one.png") - {"#000000"} == {COLOURS[2]}  # names are black
    page.get_by_role("button", name="Show all groups").click()

    # Resting on a point brings its text; a click its card.
    place = spot(shown, 41)
    page.mouse.move(*place)
    expect(shown.locator(".tip")).to_contain_text("Diabetic KIDNEY disease (type 2)")
    page.mouse.click(*place)
    expect(page.get_by_role("heading", name="102.01")).to_be_visible()
    expect(page.get_by_text("Q10.1 (approximately)")).to_be_visible()
    expect(page).to_have_url(re.compile(r"[?&]code=102\.01"))

    # Search answers while one types, from the whole table, and sends nothing.
    search = page.get_by_role("combobox", name="Search", exact=True)
    search.fill("kidney")
    expect(shown.locator(".count")).to_have_text("1 found")
    search.fill("finding sample")
    expect(shown.locator(".count")).to_have_text("1 found, 1 of them not on this map")
    search.fill("")
    assert watched.sent("kidney") == watched.sent("sample left") == 0

    # A lasso around a chapter: browser and server count the same; the file says where it comes from.
    codes = code_table()
    centre = np.mean([spot(shown, row) for row in range(7 * CODES_PER_CHAPTER, 8 * CODES_PER_CHAPTER)], axis=0)
    lasso(page, tuple(centre), radius=45)
    expect(shown.locator(".status")).to_contain_text("selected")
    selected = int(shown.locator(".status").inner_text().split()[-2])
    assert selected >= 10
    expect(page.get_by_text(f"{selected} codes", exact=True)).to_be_visible()
    with page.expect_download() as waiting:
        page.get_by_role("button", name="CSV", exact=True).click()
    lines = waiting.value.path().read_text().splitlines()
    assert lines[0].startswith("code,description") and len(lines) == selected + 1
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Provenance").click()
    lines = waiting.value.path().read_text().splitlines()
    assert any(artifact.manifest.fingerprint in line and "model m-1" in line for line in lines)
    with page.expect_download() as waiting:
        page.get_by_role("button", name="Save picture").click()
    picture = Image.open(waiting.value.path())
    assert waiting.value.suggested_filename == f"{artifact.manifest.id}.png"
    assert picture.height > picture.width * 0.5 and len(picture.convert("RGB").getcolors(1 << 20) or []) > 50

    # The address brings it all back in another session, and holds nothing typed.
    assert "kidney" not in page.url
    page.goto(page.url)
    shown = map_of(page)
    expect(shown.locator(".status")).to_contain_text(f"{selected} selected")
    expect(page.get_by_role("heading", name="102.01")).to_be_visible()
    assert codes["code"][41].as_py() == "102.01"

    page.get_by_role("link", name="Lineage").click()
    expect(page.get_by_role("heading", name="Lineage", exact=True)).to_be_visible()
    expect(page.get_by_text("synthetic text (notes)")).to_be_visible()
    assert watched.elsewhere == []
    assert watched.errors == []


_PASTE = """(input, text) => {
  const data = new DataTransfer();
  data.setData("text", text);
  input.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true, cancelable: true }));
}"""


def test_a_pasted_table_is_read_added_in_part_and_stays_over_pages(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    shown = map_of(page)
    search = page.get_by_role("combobox", name="Search", exact=True)
    search.evaluate(_PASTE, 'code,name\r\n102.01,"Kidney, diabetic"\r\n103.02,Other\r\n104.00,Third\r\n')
    expect(shown.locator(".count")).to_have_text("3 found")
    expect(shown.locator(".about")).to_contain_text("Lines without a code: 1")
    shown.get_by_role("button", name="Add all to list").click()
    mine = shown.locator(".mine")
    expect(mine).to_have_text("My list: 3")
    # Excluded by mouse and by keyboard; with its category one stays out.
    shown.locator(".hit", has_text="103.02").get_by_title("Exclude 103.02").click()
    expect(mine).to_have_text("My list: 2")
    search.fill("102.01")
    expect(shown.locator(".count")).to_have_text("1 found")
    search.focus()
    for key in ("ArrowDown", "ArrowDown", "Alt+Enter"):  # the category, then the code
        page.keyboard.press(key)
    expect(mine).to_have_text("My list: 1")
    expect(page.get_by_role("heading", name="My list: 1 code, 2 excluded")).to_be_visible()
    shown.get_by_title("Add 102 and all 20 below it").click()
    expect(mine).to_have_text("My list: 20")
    # What was typed is there again after another page, and was not sent.
    page.get_by_role("link", name="Corpus", exact=True).click()
    expect(page.get_by_role("heading", name="Corpus", exact=True)).to_be_visible()
    page.get_by_role("link", name="Code map", exact=True).click()
    shown = map_of(page)
    expect(shown.locator(".count")).to_have_text("1 found")
    expect(page.get_by_role("combobox", name="Search", exact=True)).to_have_value("102.01")
    assert watched.sent("Kidney, diabetic") == 0
    # A reload begins another session, in which the list is there, until it is cleared.
    page.reload()
    expect(map_of(page).locator(".mine")).to_have_text("My list: 20")
    page.get_by_role("button", name="Clear", exact=True).last.click()
    expect(page.get_by_role("heading", name="My list: 0 codes")).to_be_visible()
    page.reload()
    map_of(page)
    page.wait_for_timeout(1000)
    expect(page.get_by_role("heading", name="My list: 0 codes")).to_be_visible()
    assert watched.errors == []


def test_the_map_by_keyboard_alone(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(address)
    shown = map_of(page)
    shown.locator(".stage").focus()
    page.keyboard.press("+")
    for _ in range(30):
        page.keyboard.press("ArrowRight")
        if shown.locator(".tip").is_visible():
            break
    expect(shown.locator(".tip")).to_contain_text("Finding")
    page.keyboard.press("Enter")
    expect(page.get_by_text("Nearest codes")).to_be_visible()
    expect(page).to_have_url(re.compile("[?&]code="))
    assert watched.errors == []


def test_the_map_without_webgl_says_so(chromium: str, address: str, tmp_path: Path) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-3d-apis"])
        page = browser.new_page(viewport={"width": 1500, "height": 1400})
        page.goto(address)
        shown = map_of(page)
        expect(shown.locator(".status")).to_contain_text("no WebGL: the map is drawn more slowly. 420 of 420")
        assert drawn_colours(shown, tmp_path / "plain.png") >= {*COLOURS} - {"#000000"}
        browser.close()
