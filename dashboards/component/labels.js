// Names of regions: chapters first, blocks and categories as there is room and zoom. A name never covers another.

const LEVEL_ZOOM = [0, 1.6, 4]; // zoom from which a level is shown
const LEVEL_SIZE = [15, 13, 12];

/** The labels that fit the view, the largest group first: [{text, x, y, level}]. */
function placeLabels(labels, onScreen, canvas, pen, { ratio, zoom }) {
  const taken = [], placed = [];
  for (const [text, level, px, py] of labels) {
    if (zoom < LEVEL_ZOOM[level] || (level === 0 && zoom > 8)) continue;
    const [x, y] = onScreen(px, py);
    if (x < 0 || y < 0 || x > canvas.width || y > canvas.height) continue;
    pen.font = font(level, ratio);
    const half = pen.measureText(text).width / 2 + 6 * ratio;
    const tall = (LEVEL_SIZE[level] / 2 + 3) * ratio;
    const middle = Math.min(Math.max(x, half), canvas.width - half);
    if (taken.some(([a, b, w, h]) => Math.abs(middle - a) < half + w && Math.abs(y - b) < tall + h)) continue;
    taken.push([middle, y, half, tall]);
    placed.push({ text, x: middle, y, level });
  }
  return placed;
}

function font(level, ratio) {
  return `${level === 0 ? 600 : 500} ${LEVEL_SIZE[level] * ratio}px sans-serif`;
}

/** Draws the names that fit the view on `canvas`, and returns them in pixels of the canvas. */
function drawLabels(labels, onScreen, canvas, { ratio, zoom, theme }) {
  const pen = canvas.getContext("2d");
  pen.clearRect(0, 0, canvas.width, canvas.height);
  const placed = placeLabels(labels, onScreen, canvas, pen, { ratio, zoom });
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.lineJoin = "round";
  for (const { text, x, y, level } of placed) {
    pen.font = font(level, ratio);
    pen.strokeStyle = theme.halo;
    pen.lineWidth = 4 * ratio;
    pen.strokeText(text, x, y);
    pen.fillStyle = theme.ink;
    pen.fillText(text, x, y);
  }
  return placed;
}
