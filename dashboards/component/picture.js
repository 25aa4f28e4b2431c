// What is next to the points: the legend that filters, and pictures of the map with its legend and provenance.

const SHARP = 2400; // pixels of a saved picture's width, at least

/** Buttons for each group: a press hides or shows it, "only" shows it alone. */
function buildLegend(list, groups, hidden, changed) {
  list.replaceChildren(...groups.map((group, i) => {
    const item = document.createElement("div");
    const toggle = document.createElement("button");
    toggle.type = "button";
    toggle.className = "group";
    toggle.innerHTML = `<svg viewBox="-1 -1 2 2" aria-hidden="true"><path fill-rule="evenodd" d="${SYMBOLS[group.symbol]}"/></svg><span></span>`;
    toggle.querySelector("span").textContent = group.name;
    toggle.title = group.name;
    toggle.addEventListener("click", () => {
      hidden.has(i) ? hidden.delete(i) : hidden.add(i);
      changed();
    });
    const only = document.createElement("button");
    only.type = "button";
    only.className = "only";
    only.textContent = "only";
    only.setAttribute("aria-label", `Show only ${group.name}`);
    only.addEventListener("click", () => {
      groups.forEach((_, other) => (other === i ? hidden.delete(other) : hidden.add(other)));
      changed();
    });
    item.append(toggle, only);
    return item;
  }));
}

function showLegendState(list, hidden) {
  [...list.children].forEach((item, i) => item.firstChild.setAttribute("aria-pressed", String(!hidden.has(i))));
}

/** Gives the legend's symbols the colours of the page's theme. */
function paintLegend(list, looks) {
  looks.forEach(({ colour }, i) => list.children[i].querySelector("path").setAttribute("fill", colour));
}

/** A PNG of `layers`, the shown groups and the lines of provenance; `ratio` is that of the layers. */
function savePicture(layers, header, hidden, ratio) {
  const shown = header.groups.filter((_, i) => !hidden.has(i));
  const { width, height } = layers[0];
  const [row, margin, columns] = [LINE * ratio, MARGIN * ratio, width > 900 * ratio ? 2 : 1];
  const rows = Math.ceil(shown.length / columns);
  const canvas = document.createElement("canvas");
  canvas.width = width;
  canvas.height = height + rows * row + header.provenance.length * row + 3 * margin;
  const pen = canvas.getContext("2d");
  pen.fillStyle = LIGHT.paper;
  pen.fillRect(0, 0, canvas.width, canvas.height);
  for (const layer of layers) pen.drawImage(layer, 0, 0);
  pen.font = `${13 * ratio}px sans-serif`;
  pen.textBaseline = "middle";
  shown.forEach((group, i) => {
    const x = margin + Math.floor(i / rows) * (width / columns);
    const y = height + margin + ((i % rows) + 0.5) * row;
    pen.save();
    pen.translate(x + 7 * ratio, y);
    pen.scale(6 * ratio, 6 * ratio);
    pen.fillStyle = group.colour;
    pen.fill(new Path2D(SYMBOLS[group.symbol]), "evenodd");
    pen.restore();
    pen.fillStyle = LIGHT.ink;
    pen.fillText(group.name, x + 20 * ratio, y, width / columns - margin - 24 * ratio);
  });
  header.provenance.forEach((line, i) => {
    pen.fillStyle = LIGHT.ink;
    pen.fillText(line, margin, height + rows * row + 2 * margin + (i + 0.5) * row, width - 2 * margin);
  });
  canvas.toBlob((blob) => download(blob, `${header.file}.png`));
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** Prints a map, alone on a page: the page around it prints as the screen shows it, over several sheets. */
function printSvg(svg, title) {
  const frame = document.createElement("iframe");
  frame.title = "Print";
  frame.style.cssText = "position:fixed;width:0;height:0;border:0";
  const style = "@page{size:A4 landscape;margin:10mm}body{margin:0}svg{display:block;width:100%;height:auto;max-height:185mm}";
  frame.srcdoc = `<!doctype html><title>${escaped(title)}</title><style>${style}</style>${svg}`;
  frame.onload = () => {
    frame.contentWindow.onafterprint = () => setTimeout(() => frame.remove());
    frame.contentWindow.focus();
    frame.contentWindow.print();
  };
  document.body.append(frame);
}
