// Points as they travel, and questions about them: which is nearest, which are in an area. No drawing and no DOM.
// Places are whole numbers from 0 to 65535 on both axes with one scale; y grows upwards.

const SIDE = 65536;
const CELLS_SHIFT = 9; // 128 x 128 cells
const CELLS = SIDE >> CELLS_SHIFT;

/** Header (length in 4 bytes, then JSON padded to 4), two uint16 a point, one uint8 a point, what the search reads (gzip). */
function unpack(bytes) {
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const length = new DataView(buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 4, length)));
  const start = 4 + length;
  const places = new Uint16Array(buffer, start, 2 * header.count);
  const groups = new Uint8Array(buffer, start + 4 * header.count, header.count);
  const search = new Uint8Array(buffer, start + 5 * header.count);
  return { header, places, groups, search, cells: sortIntoCells(places), order: mixed(header.count) };
}

/** All rows in an order that jumps about, the same each time: drawn row by row, the last group would cover the others. */
function mixed(count) {
  let step = Math.floor(count * 0.618) | 1;
  const common = (a, b) => (b ? common(b, a % b) : a);
  while (common(count, step) > 1) step += 2;
  return Uint32Array.from({ length: count }, (_, i) => (i * step) % count);
}

function cellOf(x, y) {
  return (y >> CELLS_SHIFT) * CELLS + (x >> CELLS_SHIFT);
}

function sortIntoCells(places) {
  const count = places.length / 2;
  const starts = new Uint32Array(CELLS * CELLS + 1);
  for (let i = 0; i < count; i++) starts[cellOf(places[2 * i], places[2 * i + 1]) + 1]++;
  for (let c = 0; c < CELLS * CELLS; c++) starts[c + 1] += starts[c];
  const next = starts.slice(0, -1);
  const order = new Uint32Array(count);
  for (let i = 0; i < count; i++) order[next[cellOf(places[2 * i], places[2 * i + 1])]++] = i;
  return { starts, order };
}

/** Rows within `radius` of a place whose group is not hidden, nearest first, at most `most`. */
function near(points, x, y, radius, hidden, most) {
  const { places, groups, cells } = points;
  const clamp = (value) => Math.min(Math.max(value, 0), SIDE - 1);
  const [left, right] = [clamp(x - radius) >> CELLS_SHIFT, clamp(x + radius) >> CELLS_SHIFT];
  const [low, high] = [clamp(y - radius) >> CELLS_SHIFT, clamp(y + radius) >> CELLS_SHIFT];
  const found = [];
  for (let row = low; row <= high; row++) {
    const last = cells.starts[row * CELLS + right + 1];
    for (let k = cells.starts[row * CELLS + left]; k < last; k++) {
      const i = cells.order[k];
      if (hidden.has(groups[i])) continue;
      const distance = (places[2 * i] - x) ** 2 + (places[2 * i + 1] - y) ** 2;
      if (distance <= radius * radius) found.push([distance, i]);
    }
  }
  found.sort((a, b) => a[0] - b[0]);
  return found.slice(0, most).map((pair) => pair[1]);
}

/** One byte a point: 1 inside the area (even-odd rule, whole numbers, as the server counts) and not hidden; no corners: all. */
function inside(points, corners, hidden) {
  const { places, groups } = points;
  const flags = new Uint8Array(groups.length);
  for (let i = 0; i < groups.length; i++) {
    if (hidden.has(groups[i])) continue;
    const [x, y] = [places[2 * i], places[2 * i + 1]];
    let odd = corners.length === 0;
    for (let a = 0, b = corners.length - 2; a < corners.length; b = a, a += 2) {
      const [ax, ay, bx, by] = [corners[a], corners[a + 1], corners[b], corners[b + 1]];
      if (ay > y === by > y) continue;
      const rise = by - ay;
      const side = (x - ax) * rise - (bx - ax) * (y - ay);
      if (rise > 0 ? side < 0 : side > 0) odd = !odd;
    }
    if (odd) flags[i] = 1;
  }
  return flags;
}

/** Whole-number corners of a drawn line, thinned to at most `most`. */
function thinned(line, most) {
  const step = Math.max(1, Math.ceil(line.length / most));
  const clamp = (value) => Math.min(Math.max(Math.round(value), 0), SIDE - 1);
  return line.filter((_, i) => i % step === 0).flatMap(([x, y]) => [clamp(x), clamp(y)]);
}
