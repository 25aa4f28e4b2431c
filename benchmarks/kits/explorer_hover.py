"""Milliseconds of the browser's main thread for one repaint under a moving pointer, with many found marks on the map.

The map marks found points in its WebGL layer and rings at most 200. The other side is a canvas of the same size on which each
found point is ringed by four calls, as the map did before it had the layer. Both are timed in the same page, in turn.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from playwright.sync_api import Page

COUNTS = (0, 200, 2_000, 17_895, 40_000)
"""Found marks. 17,895 codes of ICD-10-CM have the letters of "fracture" in their description."""

_MEASURE = """
async ([counts, repeats]) => {
  const map = globalThis.clinicalMaps.get("bench");
  const root = [...document.querySelectorAll("*")].map((e) => e.shadowRoot?.querySelector(".map") ?? null).find(Boolean)
    ?? document.querySelector(".map");
  const stage = root.querySelector(".stage"), total = Number(root.dataset.drawn);
  const drawn = () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
  const median = (times) => times.sort((a, b) => a - b)[times.length >> 1];
  const { left, top, width, height } = stage.getBoundingClientRect();
  let repaints = 0;
  const clear = CanvasRenderingContext2D.prototype.clearRect;
  CanvasRenderingContext2D.prototype.clearRect = function (...area) { repaints++; return clear.apply(this, area); };
  /** Milliseconds of a move to the next place, or null where no other point is under the pointer, so that nothing is painted. */
  const pointer = (i) => {
    const [clientX, clientY] = [left + width * (0.3 + 0.4 * ((i * 0.618) % 1)), top + height * (0.3 + 0.4 * ((i * 0.382) % 1))];
    const event = new PointerEvent("pointermove", { clientX, clientY, pointerId: 1, pointerType: "mouse", bubbles: true });
    const before = repaints, started = performance.now();
    stage.dispatchEvent(event);
    const took = performance.now() - started;
    return repaints > before ? took : null;
  };
  const canvas = Object.assign(document.createElement("canvas"), stage.querySelector("canvas"));
  canvas.width = stage.querySelector("canvas").width;
  canvas.height = stage.querySelector("canvas").height;
  const pen = canvas.getContext("2d");
  const rings = (count) => {
    const started = performance.now();
    pen.clearRect(0, 0, canvas.width, canvas.height);
    for (let i = 0; i < count; i++) {
      pen.save();
      pen.translate(canvas.width * ((i * 0.618) % 1), canvas.height * ((i * 0.382) % 1));
      pen.scale(7, 7);
      const shape = new Path2D("M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0Z");
      for (const [colour, wide] of [["#fff", 4], ["#000", 2]]) {
        pen.strokeStyle = colour;
        pen.lineWidth = wide / 7;
        pen.stroke(shape);
      }
      pen.restore();
    }
    pen.getImageData(0, 0, 1, 1); // the browser queues the calls until a pixel is read
    return performance.now() - started;
  };
  rings(1);
  const found = [];
  for (const count of counts) {
    map.showFound(Array.from({ length: count }, (_, i) => Math.floor((i * total) / count)));
    await drawn();
    const ours = [], other = [];
    for (let i = 0; ours.length < repeats && i < 20 * repeats; i++) {
      const took = pointer(i);
      if (took === null) continue;
      ours.push(took);
      if (ours.length <= 3) other.push(rings(count));
      await drawn();
    }
    found.push({ count, repaints: ours.length, ours_ms: median(ours), most_ms: Math.max(...ours), rings_ms: median(other) });
  }
  map.showFound(null);
  return { total, found };
}
"""


def hover_repaints(page: "Page", *, repeats: int = 15) -> dict[str, Any]:
    """Return the map's number of points and, for each of ``COUNTS``, the median milliseconds of both sides."""
    found: dict[str, Any] = page.evaluate(_MEASURE, [list(COUNTS), repeats])
    return found
