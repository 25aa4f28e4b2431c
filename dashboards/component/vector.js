// The map as SVG text: what is in view, its legend and provenance. Figures of a paper and the printed page are made of it. No DOM.

const LINE = 20, MARGIN = 16;
const FONT = 'font-family="sans-serif"';

function escaped(text) {
  return String(text).replace(/[&<>"]/g, (sign) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[sign]);
}

/**
 * `view` has the place in the middle, pixels a unit of the map and the size of a point; `looks` are those of the groups; `names` are
 * placed labels; `rings` are places in pixels; with `hexes` these are drawn in place of the points.
 */
function svgOf({ points, header, looks, view, width, height, flags, hexes, names, rings }) {
  const { places, groups, order } = points;
  const shown = header.groups.map((group, i) => ({ ...group, ...looks[i] })).filter(({ hidden }) => !hidden);
  const columns = width > 900 ? 2 : 1;
  const rows = Math.ceil(shown.length / columns);
  const whole = height + (rows + header.provenance.length) * LINE + 3 * MARGIN;
  const parts = [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${whole}" width="${width}" height="${whole}" role="img">`,
    `<title>${escaped(header.label)}</title><desc>${escaped(header.provenance.join(" "))}</desc>`,
    `<rect width="${width}" height="${whole}" fill="#ffffff"/>`,
    `<defs><clipPath id="frame"><rect width="${width}" height="${height}"/></clipPath>`,
    ...Object.entries(SYMBOLS).map(([name, d]) => `<path id="${name}" fill-rule="evenodd" d="${d}" transform="scale(${(view.size / 2).toFixed(2)})"/>`),
    '</defs><g clip-path="url(#frame)">',
  ];
  if (hexes) {
    const most = mostIn(hexes);
    for (const { x, y, count } of hexes) {
      parts.push(`<path d="${hexagonPath((x - view.x) * view.scale + width / 2, (view.y - y) * view.scale + height / 2, HEXAGON)}" fill="${shade(count, most, LIGHT)}"/>`);
    }
  } else {
    const bins = looks.map(() => [[], []]);
    for (const i of order) {
      const x = (places[2 * i] - view.x) * view.scale + width / 2;
      const y = (view.y - places[2 * i + 1]) * view.scale + height / 2;
      if (looks[groups[i]].hidden || x < -9 || y < -9 || x > width + 9 || y > height + 9) continue;
      bins[groups[i]][flags && !flags[i] ? 0 : 1].push(`<use href="#${looks[groups[i]].symbol}" x="${x.toFixed(1)}" y="${y.toFixed(1)}"/>`);
    }
    for (const strong of [0, 1]) {
      bins.forEach((bin, group) => bin[strong].length && parts.push(
        `<g fill="${looks[group].colour}" opacity="${strong ? OPACITY : FAINT}">${bin[strong].join("")}</g>`));
    }
  }
  for (const [x, y] of rings) parts.push(`<circle cx="${x.toFixed(1)}" cy="${y.toFixed(1)}" r="7" fill="none" stroke="#000000" stroke-width="2"/>`);
  for (const { text, x, y, level } of names) {
    parts.push(`<text x="${x.toFixed(1)}" y="${y.toFixed(1)}" ${FONT} font-size="${LEVEL_SIZE[level]}" font-weight="${level ? 500 : 600}" text-anchor="middle" ` +
      `dominant-baseline="central" paint-order="stroke" stroke="#ffffff" stroke-width="4" stroke-linejoin="round">${escaped(text)}</text>`);
  }
  parts.push("</g>");
  shown.forEach((group, i) => {
    const x = MARGIN + Math.floor(i / rows) * (width / columns);
    const y = height + MARGIN + ((i % rows) + 0.5) * LINE;
    parts.push(`<path fill-rule="evenodd" d="${SYMBOLS[group.symbol]}" fill="${group.colour}" transform="translate(${x + 7} ${y}) scale(6)"/>` +
      `<text x="${x + 20}" y="${y}" ${FONT} font-size="13" dominant-baseline="central">${escaped(group.name)}</text>`);
  });
  header.provenance.forEach((line, i) => {
    const y = height + rows * LINE + 2 * MARGIN + (i + 0.5) * LINE;
    parts.push(`<text x="${MARGIN}" y="${y}" ${FONT} font-size="13" dominant-baseline="central">${escaped(line)}</text>`);
  });
  return `${parts.join("\n")}\n</svg>\n`;
}
