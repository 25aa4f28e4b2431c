// How many points are where: hexagons of one size on the screen, darker where there are more. No DOM.

const HEXAGON = 9; // CSS pixels from the middle to a corner

/**
 * Counts the points of shown groups (and, where `flags` are given, flagged ones) in hexagons with corners `radius` from their
 * middles, in units of the map: [{x, y, count}]. Hexagons keep their places on the map while it is moved.
 */
function hexagons(points, { radius, hidden, flags, within }) {
  const { places, groups } = points;
  const [left, low, right, high] = within.map((end, i) => end + (i < 2 ? -2 : 2) * radius); // whole hexagons at the edge
  const [wide, tall] = [Math.sqrt(3) * radius, 1.5 * radius];
  const counts = new Map();
  for (let i = 0; i < groups.length; i++) {
    const [x, y] = [places[2 * i], places[2 * i + 1]];
    if (x < left || x > right || y < low || y > high || hidden.has(groups[i]) || (flags && !flags[i])) continue;
    // The nearest middle is in the row of the point or in the next one; every second row is moved by half a hexagon.
    const row = Math.floor(y / tall);
    let best = Infinity, key = 0;
    for (let r = row; r <= row + 1; r++) {
      const shift = (r & 1) / 2;
      const column = Math.round(x / wide - shift);
      const distance = ((column + shift) * wide - x) ** 2 + (r * tall - y) ** 2;
      if (distance < best) [best, key] = [distance, r * 0x100000 + column + 0x80000];
    }
    counts.set(key, (counts.get(key) ?? 0) + 1);
  }
  return [...counts].map(([key, count]) => {
    const row = Math.floor(key / 0x100000);
    return { x: ((key % 0x100000) - 0x80000 + (row & 1) / 2) * wide, y: row * tall, count };
  });
}

/** The colour of a count: by its logarithm, because a few hexagons hold most points. */
function shade(count, most, { faint, strong }) {
  const share = most > 1 ? Math.log(count) / Math.log(most) : 1;
  return `rgb(${faint.map((value, i) => Math.round(value + share * (strong[i] - value))).join(",")})`;
}

/** Corners of a hexagon around a place on the screen, as an SVG path. */
function hexagonPath(x, y, radius) {
  const corners = Array.from({ length: 6 }, (_, i) => [x + radius * Math.sin((i * Math.PI) / 3), y + radius * Math.cos((i * Math.PI) / 3)]);
  return `M${corners.map((corner) => corner.map((value) => value.toFixed(1)).join(" ")).join("L")}Z`;
}

function mostIn(hexes) {
  return hexes.reduce((most, { count }) => Math.max(most, count), 0);
}

/** Draws hexagons with corners `radius` from their middles, in pixels of the canvas. */
function drawDensity(canvas, hexes, onScreen, radius, theme) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const most = mostIn(hexes);
  for (const { x, y, count } of hexes) {
    pen.fillStyle = shade(count, most, theme);
    pen.fill(new Path2D(hexagonPath(...onScreen(x, y), radius)));
  }
}
