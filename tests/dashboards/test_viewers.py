"""Many viewers, one after another: the explorer's memory stays as it is, and any embedded set is drawn in a real browser too."""

from pathlib import Path

import psutil
import pytest
from clinical_modernbert.artifacts import Store
from playwright.sync_api import expect

from tests.helpers import explorer_page
from tests.helpers.explorer_browser import Watched, map_of, violations
from tests.helpers.explorer_page import PublishMap, publish_set

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_MEGABYTE = 1 << 20


def server() -> psutil.Process:
    """The explorer's process."""
    (found,) = [child for child in psutil.Process().children() if "dashboards/explorer.py" in child.cmdline()]
    return found


def test_memory_does_not_grow_with_viewers(
    publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch, watched: Watched, address: str
) -> None:
    monkeypatch.setattr(explorer_page, "CODES_PER_CHAPTER", 715)  # 15,015 codes, as ICD-9-CM has
    publish_map()
    browser = watched.page.context.browser
    assert browser is not None
    seen = []
    for _ in range(16):
        page = browser.new_page()
        page.goto(address)
        map_of(page)
        page.close()
        seen.append(server().memory_info().rss / _MEGABYTE)
    # Streamlit keeps a closed session for two minutes; the map itself is held once.
    assert seen[-1] - seen[3] < 12 * 2, [round(megabytes) for megabytes in seen]


def test_an_embedded_set_is_drawn_and_quiet(
    store: Store, tmp_path: Path, watched: Watched, address: str, axe: str
) -> None:
    publish_set(store, tmp_path / "notes")
    page = watched.page
    page.goto(address)
    page.get_by_role("link", name="Embeddings", exact=True).click()
    map_of(page)
    expect(page.get_by_text("The secret text")).to_have_count(0)
    page.screenshot(path=tmp_path / "embeddings.png", full_page=True)
    assert violations(page, axe) == []
    assert watched.elsewhere == [] and watched.errors == []
