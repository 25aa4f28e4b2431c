"""Many viewers, one after another: the explorer's memory stays as it is. An embedded set is drawn in a real browser."""

from pathlib import Path

import psutil
import pytest
from clinical_modernbert.artifacts import Store
from playwright.sync_api import expect

from benchmarks.kits.explorer_viewers import visit
from tests.helpers import explorer_page
from tests.helpers.explorer_browser import Watched, map_of, violations
from tests.helpers.explorer_page import PublishMap, publish_set

_MEGABYTE = 1 << 20


def server() -> psutil.Process:
    """The explorer's process."""
    (found,) = [child for child in psutil.Process().children() if "dashboards/explorer.py" in child.cmdline()]
    return found


@pytest.mark.slow
def test_memory_does_not_grow_with_viewers(
    publish_map: PublishMap, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setattr(explorer_page, "CODES_PER_CHAPTER", 715)  # 15,015 codes, as ICD-9-CM has
    publish_map()
    seen = []
    for _ in range(16):
        opened = visit(address)
        assert opened.errors == [] and opened.size_bytes > 4 * 15_015  # the map is there
        seen.append(server().memory_info().rss / _MEGABYTE)
    # Streamlit keeps a closed session for two minutes; the map itself is held once.
    assert seen[-1] - seen[3] < 12 * 2, [round(megabytes) for megabytes in seen]


@pytest.mark.browser
@pytest.mark.slow
def test_an_embedded_set_is_drawn_and_quiet(
    store: Store, tmp_path: Path, watched: Watched, address: str, axe: str
) -> None:
    publish_set(store, tmp_path / "notes")
    page = watched.page
    page.goto(address)
    page.get_by_role("link", name="Embeddings", exact=True).click()
    map_of(page)
    expect(page.get_by_text("The secret text")).to_have_count(0)
    assert violations(page, axe) == []
    assert watched.elsewhere == [] and watched.errors == []
