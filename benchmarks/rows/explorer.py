"""Time to the first map in a browser, and bytes sent: the explorer's map against plain Plotly (scattergl) and pydeck.

All three are Streamlit pages (``benchmarks/kits/explorer_page.py``) with the same points and categories, each by its documented
way for many points: Plotly one ``scattergl`` trace a category, pydeck one ``ScatterplotLayer`` over a table, both with the code
as hover text. A round opens a fresh browser (software WebGL, nothing cached) on a warm server and waits until a canvas shows
points: 1,500 of its pixels in a view of 300 x 300 are not background. The bound is such a page with eight points in our map:
what the framework and the browser take before any data. The browser counts the bytes of the page with its scripts and of the
websocket. ``EXPLORER_POINTS=2000,5000`` measures other sizes.

Before the rounds, a map of 74,044 points is measured while a pointer moves over it (``benchmarks/kits/explorer_hover.py``).
"""

import atexit
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clinical_modernbert.errors import SourceError

from benchmarks.harness import Row
from benchmarks.kits.explorer_hover import hover_repaints

if TYPE_CHECKING:
    from playwright.sync_api import Page as BrowserPage

_PAGE = Path(__file__).resolve().parents[1] / "kits" / "explorer_page.py"
_START_S, _DRAW_MS = 120, 90_000
_HOVERED = 74_044  # codes of ICD-10-CM

# Canvases keep their picture so that it can be read at any time; the same for every side.
_KEEP = """
const get = HTMLCanvasElement.prototype.getContext;
HTMLCanvasElement.prototype.getContext = function (kind, options) {
  return get.call(this, kind, kind.startsWith("webgl") ? { ...options, preserveDrawingBuffer: true } : options);
};
const all = (root) => [...root.querySelectorAll("*")].flatMap((e) => [...(e.tagName === "CANVAS" ? [e] : []),
  ...(e.shadowRoot ? all(e.shadowRoot) : [])]);
window.drawn = () => {
  const small = document.createElement("canvas");
  small.width = small.height = 300;
  const pen = get.call(small, "2d", { willReadFrequently: true });
  return all(document).filter((c) => c.width > 300 && c.height > 300).some((canvas) => {
    pen.clearRect(0, 0, 300, 300);
    pen.drawImage(canvas, 0, 0, 300, 300);
    const pixels = pen.getImageData(0, 0, 300, 300).data;
    let count = 0;
    for (let i = 0; i < pixels.length; i += 4)
      if (pixels[i + 3] > 20 && Math.min(pixels[i], pixels[i + 1], pixels[i + 2]) < 200) count++;
    return count >= window.least;
  });
};
"""


class Page:
    """One Streamlit page on a server of its own."""

    def __init__(self, side: str, count: int) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        options = ["--server.headless=true", "--server.fileWatcherType=none", "--browser.gatherUsageStats=false"]
        command = [sys.executable, "-m", "streamlit", "run", str(_PAGE), f"--server.port={self.port}", *options]
        command += ["--", side, str(count)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        atexit.register(self.process.kill)
        self.count, self.least = count, 1500 if count >= 1000 else 1
        self.opened: list[dict[str, float]] = []
        deadline = time.monotonic() + _START_S
        while not self._healthy():
            if time.monotonic() > deadline:
                raise AssertionError(f"{side}: the page did not start within {_START_S} s")
            time.sleep(0.2)

    def _healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://localhost:{self.port}/_stcore/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            return False

    def open(self, then: Callable[["BrowserPage"], None] | None = None) -> int:
        """Open the page in a fresh browser, wait for its points and pass it to ``then``; returns the number of points."""
        from playwright.sync_api import sync_playwright

        arguments = ["--no-sandbox", "--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        received = {"websocket": 0, "http": 0}
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=arguments)
            page = browser.new_page(viewport={"width": 1400, "height": 900})
            page.add_init_script(f"window.least = {self.least};{_KEEP}")
            session = page.context.new_cdp_session(page)
            session.send("Network.enable")
            session.on("Network.loadingFinished", lambda e: _add(received, "http", e["encodedDataLength"]))
            page.on("websocket", lambda ws: ws.on("framereceived", lambda data: _add(received, "websocket", len(data))))
            started = time.perf_counter()
            page.goto(f"http://localhost:{self.port}", wait_until="commit")
            page.wait_for_function("window.drawn && window.drawn()", timeout=_DRAW_MS, polling=50)
            seconds = time.perf_counter() - started
            if then:
                then(page)
            browser.close()
        self.opened.append({"first_map_s": round(seconds, 3), **received})
        return self.count


def build(_scratch: Path) -> Row:
    """Start the pages of both sizes and return the row; ``SourceError`` where a browser or a peer is missing."""
    if shutil.which("chromium") is None:
        raise SourceError("no Chromium on the PATH: install Debian's package chromium")
    try:
        import plotly
        import pydeck
    except ImportError as error:
        raise SourceError(f"a peer is not installed: {error.name}; pip install clinical-modernbert[bench]") from None
    versions = {"plotly": f"plotly scattergl {plotly.__version__}", "pydeck": f"pydeck {pydeck.__version__}"}
    small, *large = (int(number) for number in os.environ.get("EXPLORER_POINTS", "15000,100000").split(","))
    row = _row(small, versions, also=None)
    for count in large:
        row = _row(count, versions, also=row)
    return row


def _row(count: int, versions: dict[str, str], *, also: Row | None) -> Row:
    pages = {side: Page(side, count) for side in ("ours", "plotly", "pydeck")}
    floor = Page("ours", 8)
    facts: dict[str, Any] = {"points": count, "opened": {name: page.opened for name, page in pages.items()}}
    if also is None:
        facts["hover"] = _hover()

    def check() -> dict[str, Any]:
        """Every side draws all points it was given: each says how many it holds."""
        for name, page in pages.items():
            page.open()
            sys.stderr.write(f"{name} {count}: {json.dumps(page.opened[-1])}\n")
        sent = facts["opened"]["ours"][0]["websocket"]
        if sent < 5 * count:
            raise AssertionError(f"the map of {count} points came with {sent} bytes: points are missing")
        return facts

    return Row(
        name="explorer",
        unit="points",
        peer=versions["plotly"],
        check=check,
        ours=pages["ours"].open,
        other=pages["plotly"].open,
        other_peers={versions["pydeck"]: pages["pydeck"].open},
        bound=lambda: floor.open() and count,  # as if it had drawn all of them
        target="sooner and smaller than both at 15,000 and at 100,000 points",
        also=also,
    )


def _hover() -> dict[str, Any]:
    found: dict[str, Any] = {}
    shown = Page("ours", _HOVERED)
    shown.open(lambda page: found.update(hover_repaints(page)))
    shown.process.kill()
    for one in found["found"]:
        sys.stdout.write(
            f"hover over {found['total']} points, {one['count']} found: {one['ours_ms']:.1f} ms (most {one['most_ms']:.1f}), "
            f"rings {one['rings_ms']:.1f} ms\n"
        )
    return found


def _add(received: dict[str, int], name: str, size: float) -> None:
    received[name] += int(size)
