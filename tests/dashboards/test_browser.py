"""The explorer in a real browser: it draws, it answers clicks and searches, and it asks no other machine for anything."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from clinical_modernbert.artifacts import Store
from PIL import Image
from playwright.sync_api import Locator, Page, expect, sync_playwright

from tests.dashboards.conftest import PublishMap

pytestmark = [pytest.mark.browser, pytest.mark.slow]
_START_TIMEOUT_S = 60
_PATIENCE_MS = 30_000


@pytest.fixture(scope="module")
def chromium() -> str:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if found is None:
        pytest.skip("no Chromium on the PATH: install Debian's package chromium")
    return found


@pytest.fixture
def address(store: Store, repository: Path) -> Iterator[str]:
    """The running explorer, started by the documented command."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [
        sys.executable, "-m", "streamlit", "run", "dashboards/explorer.py", f"--server.port={port}",
        "--server.fileWatcherType=none", "--", "--root", store.uri,
    ]  # fmt: skip
    process = subprocess.Popen(
        command, cwd=repository, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=_environment()
    )
    address = f"http://localhost:{port}"
    try:
        _wait_until_healthy(process, f"{address}/_stcore/health")
        yield address
    finally:
        process.kill()
        process.communicate()


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("ARTIFACT_ROOT", "DISPLAY")}


def _wait_until_healthy(process: subprocess.Popen[str], url: str) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.2)
    process.kill()
    pytest.fail(f"the explorer did not start:\n{process.communicate()[0]}")


class Watched:
    """A page together with the requests that it sent elsewhere and the errors in its console."""

    def __init__(self, page: Page, address: str) -> None:
        self.page = page
        self.elsewhere: list[str] = []
        self.errors: list[str] = []
        own = urlsplit(address).netloc
        page.on("request", lambda request: self._seen(request.url, own))
        page.on("websocket", lambda channel: self._seen(channel.url, own))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _seen(self, url: str, own: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != own:
            self.elsewhere.append(url)


@pytest.fixture
def watched(chromium: str, address: str) -> Iterator[Watched]:
    with sync_playwright() as playwright:
        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        page = browser.new_page(viewport={"width": 1500, "height": 1400})
        page.set_default_timeout(_PATIENCE_MS)
        expect.set_options(timeout=_PATIENCE_MS)
        yield Watched(page, address)
        browser.close()


def plot_of(page: Page) -> Locator:
    """The drawn chart; Plotly makes its canvases before it has drawn, the modebar only after."""
    expect(page.locator(".js-plotly-plot canvas").first).to_be_visible()
    expect(page.locator(".js-plotly-plot .modebar")).to_be_attached()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    return page.locator(".js-plotly-plot")


def drawn_colours(plot: Locator, target: Path) -> set[tuple[int, int, int]]:
    """The strong colours inside the plotting area, with at least 20 pixels each."""
    plot.screenshot(path=target)
    pixels = np.asarray(Image.open(target).convert("RGB"))
    area = pixels[: int(pixels.shape[0] * 0.7)].reshape(-1, 3)
    values, counts = np.unique(area, axis=0, return_counts=True)
    strong = values.max(axis=1).astype(int) - values.min(axis=1) > 80
    return {tuple(value) for value in values[strong & (counts >= 20)].tolist()}


def test_the_map_in_a_browser(watched: Watched, address: str, publish_map: PublishMap, tmp_path: Path) -> None:
    artifact = publish_map()
    page = watched.page
    page.goto(address)
    expect(page.get_by_role("heading", name="Code map")).to_be_visible()
    expect(page.get_by_text("Research use, not for care.")).to_be_visible()
    expect(page.get_by_text(artifact.manifest.fingerprint).first).to_be_visible()
    plot = plot_of(page)
    page.wait_for_timeout(500)
    assert len(drawn_colours(plot, tmp_path / "map.png")) >= 5
    assert page.locator(".js-plotly-plot .legend .traces").count() == 21

    # The legend filters without the server: with only one chapter left, one colour is left.
    page.locator(".js-plotly-plot .legend .traces .legendtoggle").first.dblclick()
    page.wait_for_timeout(1000)
    assert len(drawn_colours(plot, tmp_path / "one.png")) <= 2
    page.locator(".js-plotly-plot .legend .traces .legendtoggle").first.dblclick()
    page.wait_for_timeout(1000)

    click_point(page, curve=2, point=1)
    expect(page.get_by_role("heading", name="102.01")).to_be_visible()
    expect(page.get_by_text("Diabetic KIDNEY disease (type 2)")).to_be_visible()

    search = page.get_by_role("textbox", name="Search by code or words")
    search.fill("kidney")
    search.press("Enter")
    expect(page.get_by_text("1 found")).to_be_visible()
    expect(page.locator(".legend").get_by_text("found by the search (1)")).to_be_attached()
    page.wait_for_timeout(500)
    page.screenshot(path=tmp_path / "search.png", full_page=True)

    page.get_by_role("link", name="Lineage").click()
    expect(page.get_by_role("heading", name="Lineage", exact=True)).to_be_visible()
    expect(page.get_by_text("synthetic text: notes")).to_be_visible()
    assert "kidney" not in page.url
    assert watched.elsewhere == []
    assert watched.errors == []


def click_point(page: Page, *, curve: int, point: int) -> None:
    """Click where Plotly has drawn a point of a trace."""
    place = page.evaluate(
        """([curve, point]) => {
            const plot = document.querySelector('.js-plotly-plot'), layout = plot._fullLayout, box = plot.getBoundingClientRect();
            const trace = plot._fullData[curve];
            return [box.left + layout.xaxis._offset + layout.xaxis.d2p(trace.x[point]),
                    box.top + layout.yaxis._offset + layout.yaxis.d2p(trace.y[point])];
        }""",
        [curve, point],
    )
    page.mouse.move(*place)
    page.wait_for_timeout(300)
    page.mouse.click(*place)
