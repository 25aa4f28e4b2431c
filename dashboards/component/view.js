// What of the map is seen: the place in the middle, and how many pixels of the canvas a unit of the map takes. No DOM.

const MIDDLE = 32768;
const MOST_ZOOM = 200, LEAST_ZOOM = 0.5; // times the whole map
const CLOSEST_FIT = 40;

/** A view of a canvas that has no size yet; `moved` is called after each change. */
function makeView(moved) {
  let fit = 1, before = null;
  const view = {
    x: MIDDLE, y: MIDDLE, scale: 1, size: 1, ratio: 1, width: 0, height: 0,
    get zoom() { return view.scale / fit; },

    /** Takes the size of a canvas, in its pixels, and how many of them are a CSS pixel. */
    resize(width, height, ratio) {
      const kept = view.width ? view.zoom : 1;
      Object.assign(view, { width, height, ratio });
      fit = (0.94 * Math.min(width, height)) / SIDE;
      view.scale = kept * fit;
      moved();
    },
    /** Zooms and keeps one place where it is; returns whether anything changed. */
    zoomBy(factor, x = view.x, y = view.y) {
      const scale = Math.min(Math.max(view.scale * factor, fit * LEAST_ZOOM), fit * MOST_ZOOM);
      if (scale === view.scale) return false;
      view.x = x + ((view.x - x) * view.scale) / scale;
      view.y = y + ((view.y - y) * view.scale) / scale;
      view.scale = scale;
      before = null;
      moved();
      return true;
    },
    /** Moves by CSS pixels. */
    pan(dx, dy) {
      view.x -= (dx * view.ratio) / view.scale;
      view.y += (dy * view.ratio) / view.scale;
      before = null;
      moved();
    },
    whole() {
      Object.assign(view, { x: MIDDLE, y: MIDDLE, scale: fit });
      before = null;
      moved();
    },
    /** Shows all of `rows` of `places`. */
    fitTo(places, rows) {
      const low = [SIDE, SIDE], high = [0, 0];
      for (const row of rows) {
        for (const axis of [0, 1]) {
          low[axis] = Math.min(low[axis], places[2 * row + axis]);
          high[axis] = Math.max(high[axis], places[2 * row + axis]);
        }
      }
      const room = 1.3 * Math.max((high[0] - low[0]) / view.width, (high[1] - low[1]) / view.height, 1 / (fit * CLOSEST_FIT));
      before ??= { x: view.x, y: view.y, zoom: view.zoom };
      Object.assign(view, { x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2, scale: Math.min(Math.max(1 / room, fit), fit * MOST_ZOOM) });
      moved();
    },
    /** Goes back to before the last `fitTo`, unless the user has moved the map since. */
    back() {
      if (before) Object.assign(view, { x: before.x, y: before.y, scale: before.zoom * fit });
      before = null;
      moved();
    },
    /** Pixels of the canvas for a place on the map, and the other way round. */
    onScreen: (x, y) => [(x - view.x) * view.scale + view.width / 2, (view.y - y) * view.scale + view.height / 2],
    onMap: (px, py) => [(px - view.width / 2) / view.scale + view.x, view.y - (py - view.height / 2) / view.scale],
    /** Left, low, right and high end of what is seen. */
    get bounds() {
      const [x, y] = [view.width / view.scale / 2, view.height / view.scale / 2];
      return [view.x - x, view.y - y, view.x + x, view.y + y];
    },
  };
  return view;
}
