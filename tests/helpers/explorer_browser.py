"""The explorer in a real browser: the server, a page that is watched, its map, and axe-core."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from clinical_modernbert.artifacts import Store
from component import places
from playwright.sync_api import Browser, Locator, Page, expect, sync_playwright

from tests.helpers.explorer_page import code_table
from tools.fetch_axe import AXE_PATH

_START_TIMEOUT_S = 60


_PATIENCE_MS = 60_000


@pytest.fixture(scope="module")
def chromium() -> str:
    found = find_chromium()
    if not found:
        pytest.skip("no Chromium on the PATH: install Debian's package chromium")
    return found


def find_chromium() -> str:
    """The browser on the PATH, or nothing."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), "")


@pytest.fixture
def address(store: Store, repository: Path) -> Iterator[str]:
    """The running explorer. A module whose tests only look overrides this and ``store`` with one server for all of them."""
    with running_explorer(store, repository) as address:
        yield address


@contextmanager
def running_explorer(store: Store, repository: Path) -> Iterator[str]:
    """Run the explorer, started by the documented command, for the length of the block."""
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
        self._frames: list[bytes] = []
        page.on("websocket", lambda channel: self._watch(channel, own))
        page.on("console", lambda message: self.errors.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))

    def _watch(self, channel: Any, own: str) -> None:
        self._seen(channel.url, own)
        channel.on(
            "framesent", lambda frame: self._frames.append(frame if isinstance(frame, bytes) else frame.encode())
        )

    def sent(self, words: str) -> int:
        """How often the page sent ``words`` to its server."""
        return sum(words.encode() in frame for frame in self._frames)

    def _seen(self, url: str, own: str) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("data", "blob") and parts.netloc != own:
            self.elsewhere.append(url)


@pytest.fixture
def watched(chromium: str, address: str) -> Iterator[Watched]:
    with browsing(chromium, address, width=1500, height=1400) as watched:
        yield watched


@contextmanager
def browsing(chromium: str, address: str, **settings: Any) -> Iterator[Watched]:
    """A page in a browser of its own; ``settings`` as for ``visiting``."""
    with launched(chromium) as browser, visiting(browser, address, **settings) as watched:
        yield watched


@contextmanager
def launched(chromium: str) -> Iterator[Browser]:
    """A browser with the network off: no name but this machine's own is found. One at a time, as Playwright wants it."""
    arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
    arguments.append("--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE localhost")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
        yield browser
        browser.close()


@contextmanager
def visiting(browser: Browser, address: str, **settings: Any) -> Iterator[Watched]:
    """A page of a new visitor; ``settings`` are its width, height and what else Playwright knows of a page."""
    viewport = {"width": settings.pop("width"), "height": settings.pop("height")}
    page = browser.new_page(viewport=viewport, **settings)
    page.set_default_timeout(_PATIENCE_MS)
    expect.set_options(timeout=_PATIENCE_MS)
    yield Watched(page, address)
    page.close()


def map_of(page: Page) -> Locator:
    """The map once its points are drawn."""
    shown = page.locator(".map[data-drawn]").first
    expect(shown).to_be_visible()
    expect(page.locator("[data-testid=stStatusWidget]")).to_have_count(0)
    return shown


def lasso(
    page: Page, around: tuple[float, float], *, radius: float, tools: Locator | None = None, press: bool = True
) -> None:
    """Draw a ring around a place, with the tools of one map (the first), or without pressing "Lasso"."""
    button = (tools or page).get_by_role("button", name="Lasso", exact=True).first
    if press:
        button.click()
    for step in range(26):
        angle = step / 25 * 2 * np.pi
        page.mouse.move(around[0] + radius * np.cos(angle), around[1] + radius * np.sin(angle))
        if step == 0:
            page.mouse.down()
    page.mouse.up()
    if press:
        button.click()


def spot(shown: Locator, row: int) -> tuple[float, float]:
    """Where the page shows a code's point while the whole map is seen."""
    box = shown.locator(".stage").bounding_box()
    assert box is not None
    codes = code_table()
    x, y = (places(codes["x"].to_numpy(), codes["y"].to_numpy())[row].astype(float) - 32768) / 65536
    side = 0.94 * min(box["width"], box["height"])
    return box["x"] + box["width"] / 2 + x * side, box["y"] + box["height"] / 2 - y * side


_LEVELS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


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
