// The map: view, pointer, keyboard, legend, area. On hover it requests only texts from the server, never points.
// What the server adds later (marks, texts, an area from a link) comes through companion.js, by the map's name.

const MOST_CORNERS = 48;
const REACH = 12; // CSS pixels within which a point is under the pointer
const ASK_AFTER_MS = 80;
const MOST_RINGS = 200; // more found points are told apart by the layer alone
const MARKS = {
  found: { path: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0Z", size: 7 },
  near: { path: "M-1-1H1V1H-1Z", size: 7 },
  chosen: { path: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0ZM-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0Z", size: 8 },
};

/** name -> the map of that name, or what waits for it. */
const maps = (globalThis.clinicalMaps ??= new Map());

export default function (component) {
  const { parentElement, data, setTriggerValue } = component;
  const before = parentElement.shown;
  if (before?.data === data) {
    before.send = setTriggerValue;
    return before.end;
  }
  before?.end();
  const shown = open(parentElement.querySelector(".map"), unpack(data));
  shown.data = data;
  shown.send = setTriggerValue;
  parentElement.shown = shown;
  return () => parentElement.shown.end();
}

function open(root, points) {
  const { header } = points;
  const find = (name) => root.querySelector(`.${name}`);
  const [stage, tip, status, list] = ["stage", "tip", "status", "legend ul"].map(find);
  const hidden = new Set(), texts = new Map();
  const layer = glLayer(points) ?? plainLayer(points);
  const [names, over] = [document.createElement("canvas"), document.createElement("canvas")];
  const pen = over.getContext("2d");
  const self = { send: () => {}, ask: null, receive, choose, ring, hide, showFound, selected, link: header.link, end };
  const view = { x: 32768, y: 32768, scale: 1, size: 1 };
  let ratio = 1, fit = 1, lassoing = false, line = null, drag = null, under = null, centred = false;
  let marks = [], corners = [], flags = null, found = null, rings = [], turn = -1, waiting = 0, timer = 0;

  stage.setAttribute("aria-label", header.label);
  stage.style.height = `min(${header.height}px, 65vh)`;
  stage.querySelectorAll("canvas").forEach((old) => old.remove());
  stage.prepend(layer.canvas, names, over);
  buildLegend(list, header.groups, hidden, filtered);
  find("legend").hidden = !header.legend;
  layer.onrestored = redraw;
  const watch = new ResizeObserver(resize);
  watch.observe(stage);
  const early = maps.get(header.name)?.early;
  maps.set(header.name, self);
  const listeners = new AbortController();
  const on = (target, kind, run, options = {}) => target.addEventListener(kind, run, { signal: listeners.signal, ...options });

  // --- drawing
  function resize() {
    const box = stage.getBoundingClientRect();
    if (!box.width) return;
    const kept = view.scale / fit;
    ratio = Math.min(globalThis.devicePixelRatio || 1, 2);
    for (const canvas of [layer.canvas, names, over]) {
      canvas.width = Math.round(box.width * ratio);
      canvas.height = Math.round(box.height * ratio);
    }
    fit = (0.94 * Math.min(over.width, over.height)) / 65536;
    view.scale = root.dataset.drawn ? kept * fit : fit;
    redraw();
  }
  function redraw() {
    if (!waiting) waiting = requestAnimationFrame(paint);
  }
  function paint() {
    waiting = 0;
    const base = header.count <= 2000 ? 9 : header.count <= 20000 ? 6 : 4.5;
    view.size = base * ratio * Math.min(Math.max((view.scale / fit) ** 0.4, 1), 4);
    layer.draw(view, header.groups.map((group, i) => ({ ...group, hidden: hidden.has(i) })));
    // On a canvas of their own: a pointer that moves repaints the marks alone.
    drawLabels(header.labels ?? [], onScreen, names, { ratio, zoom: view.scale / fit });
    paintOver();
    root.dataset.drawn = header.count;
  }
  function paintOver() {
    pen.clearRect(0, 0, over.width, over.height);
    for (const row of rings) sign(row, MARKS.found);
    for (const { kind, rows } of marks) rows.forEach((row) => sign(row, MARKS[kind]));
    if (under !== null) sign(under, { ...MARKS.found, size: 9 });
    if (line) {
      pen.beginPath();
      line.forEach(([x, y]) => pen.lineTo(...onScreen(x, y)));
      pen.setLineDash([6 * ratio, 4 * ratio]);
      pen.strokeStyle = "#000000";
      pen.lineWidth = 1.5 * ratio;
      pen.stroke();
      pen.setLineDash([]);
    }
    if (centred) {
      const [x, y, arm] = [over.width / 2, over.height / 2, 10 * ratio];
      pen.strokeStyle = "#000000";
      pen.lineWidth = ratio;
      pen.strokeRect(x - arm, y, 2 * arm, 0.5);
      pen.strokeRect(x, y - arm, 0.5, 2 * arm);
    }
  }
  function sign(row, { path, size, fill }) {
    const [x, y] = onScreen(points.places[2 * row], points.places[2 * row + 1]);
    pen.save();
    pen.translate(x, y);
    pen.scale(size * ratio, size * ratio);
    for (const [colour, width] of [["#ffffff", 4], ["#000000", 2]]) {
      pen.strokeStyle = pen.fillStyle = colour;
      pen.lineWidth = width / size;
      const shape = new Path2D(path);
      pen.stroke(shape);
      if (fill) pen.fill(shape);
    }
    pen.restore();
  }
  function onScreen(x, y) {
    return [(x - view.x) * view.scale + over.width / 2, (view.y - y) * view.scale + over.height / 2];
  }
  function onMap(event) {
    const box = stage.getBoundingClientRect();
    const [px, py] = [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
    return [(px - over.width / 2) / view.scale + view.x, view.y - (py - over.height / 2) / view.scale];
  }
  function zoom(factor, x = view.x, y = view.y) {
    const scale = Math.min(Math.max(view.scale * factor, fit / 2), fit * 200);
    view.x = x + ((view.x - x) * view.scale) / scale;
    view.y = y + ((view.y - y) * view.scale) / scale;
    view.scale = scale;
    redraw();
  }

  // --- one point
  function hover(x, y) {
    const [row] = near(points, x, y, (REACH * ratio) / view.scale, hidden, 1);
    if ((row ?? null) === under) return;
    under = row ?? null;
    for (const other of linked()) other.ring(under);
    showTip(x, y);
    paintOver();
  }
  function showTip(x, y) {
    clearTimeout(timer);
    tip.hidden = under === null;
    if (under === null) return;
    const lines = texts.get(under) ?? [];
    tip.replaceChildren(...[...lines, header.groups[points.groups[under]].name].map((words) => {
      const part = document.createElement("div");
      part.textContent = words;
      return part;
    }));
    const [px, py] = onScreen(points.places[2 * under], points.places[2 * under + 1]).map((value) => value / ratio);
    const [room, floor] = [over.width / ratio, over.height / ratio];
    tip.style.left = px > room / 2 ? "" : `${px + 14}px`;
    tip.style.right = px > room / 2 ? `${room - px + 14}px` : "";
    tip.style.top = py > floor / 2 ? "" : `${Math.max(py - 10, 4)}px`;
    tip.style.bottom = py > floor / 2 ? `${Math.max(floor - py - 10, 4)}px` : "";
    if (texts.has(under) || !self.ask) return;
    timer = setTimeout(() => {
      const unknown = near(points, x, y, (60 * ratio) / view.scale, hidden, 24).filter((row) => !texts.has(row));
      if (unknown.length) self.ask(unknown);
    }, ASK_AFTER_MS);
  }
  function ring(row) {
    under = row;
    tip.hidden = true;
    paintOver();
  }
  function linked() {
    return header.link ? [...maps.values()].filter((other) => other !== self && other.link === header.link) : [];
  }

  // --- an area
  function choose(chosen) {
    flags = chosen;
    layer.choose(found ?? flags);
    tell();
    redraw();
  }
  /** Rows that a search found; null where there is no search. They are told apart until the search is cleared. */
  function showFound(rows) {
    found = rows && new Uint8Array(header.count);
    for (const row of rows ?? []) found[row] = 1;
    rings = rows && rows.length <= MOST_RINGS ? rows : [];
    layer.choose(found ?? flags);
    redraw();
  }
  function showOnAll(rows) {
    for (const each of [self, ...linked()]) each.showFound(rows);
  }
  function fitTo(rows) {
    const low = [65535, 65535], high = [0, 0];
    for (const row of rows) {
      for (const axis of [0, 1]) {
        low[axis] = Math.min(low[axis], points.places[2 * row + axis]);
        high[axis] = Math.max(high[axis], points.places[2 * row + axis]);
      }
    }
    const room = 1.3 * Math.max((high[0] - low[0]) / over.width, (high[1] - low[1]) / over.height, 1 / (fit * 40));
    Object.assign(view, { x: (low[0] + high[0]) / 2, y: (low[1] + high[1]) / 2, scale: Math.min(Math.max(1 / room, fit), fit * 200) });
    redraw();
  }
  function selected() {
    return { from: [...hidden], flags };
  }
  function setArea(wanted, from, notify) {
    corners = wanted ?? [];
    hide(from);
    for (const other of linked()) other.hide(from);
    const within = wanted === null ? null : inside(points, corners, hidden);
    choose(within);
    for (const other of linked()) other.choose(within);
    if (!notify) return;
    turn += 1;
    self.send("area", wanted === null ? { turn } : { turn, corners, hidden: [...hidden] });
  }
  function hide(wanted) {
    hidden.clear();
    wanted.forEach((group) => hidden.add(group));
    changed();
  }
  function filtered() {
    changed();
    for (const other of linked()) other.hide([...hidden]);
  }
  function changed() {
    showLegendState(list, hidden);
    tell();
    redraw();
  }
  function tell() {
    const shown = points.groups.reduce((sum, group) => sum + !hidden.has(group), 0);
    const chosen = flags ? `, ${flags.reduce((sum, flag) => sum + flag, 0).toLocaleString("en")} selected` : "";
    status.textContent = `${layer.words}${shown.toLocaleString("en")} of ${header.count.toLocaleString("en")} ${header.unit} shown${chosen}`;
  }
  function receive(news) {
    if (news.marks) marks = news.marks;
    for (const [row, lines] of Object.entries(news.texts ?? {})) texts.set(Number(row), lines);
    if (news.area && news.area.turn > turn) {
      turn = news.area.turn;
      setArea(news.area.corners ?? null, news.area.hidden ?? [], false);
    }
    if (under !== null && !tip.hidden) showTip(points.places[2 * under], points.places[2 * under + 1]);
    paintOver();
  }

  // --- pointer, wheel, keys, buttons
  on(stage, "pointerdown", (event) => {
    if (event.button !== 0) return;
    stage.setPointerCapture(event.pointerId);
    const place = onMap(event);
    if (lassoing || event.shiftKey) line = [place];
    else drag = { x: event.clientX, y: event.clientY, moved: false };
  });
  on(stage, "pointermove", (event) => {
    centred = false;
    if (line) {
      line.push(onMap(event));
      paintOver();
    } else if (drag) {
      const [dx, dy] = [event.clientX - drag.x, event.clientY - drag.y];
      if (!drag.moved && Math.hypot(dx, dy) < 4) return;
      view.x -= (dx * ratio) / view.scale;
      view.y += (dy * ratio) / view.scale;
      drag = { x: event.clientX, y: event.clientY, moved: true };
      redraw();
    } else hover(...onMap(event));
  });
  on(stage, "pointerup", (event) => {
    if (line) {
      const drawn = line;
      line = null;
      if (drawn.length > 3) setArea(thinned(drawn, MOST_CORNERS), [...hidden], true);
    } else if (drag && !drag.moved) {
      hover(...onMap(event));
      if (under !== null) self.send("chosen", under);
    }
    drag = null;
    paintOver();
  });
  on(stage, "pointerleave", () => !line && !drag && hover(-1e9, -1e9));
  on(stage, "wheel", (event) => {
    // The page scrolls under a map that was not clicked: it must not trap who passes over it.
    if (!event.ctrlKey && stage.getRootNode().activeElement !== stage) return;
    event.preventDefault();
    zoom(Math.exp(-Math.max(-100, Math.min(100, event.deltaY)) * 0.003), ...onMap(event));
  }, { passive: false });
  const far = () => (60 * ratio) / view.scale;
  const keys = {
    ArrowLeft: () => (view.x -= far()), ArrowRight: () => (view.x += far()),
    ArrowUp: () => (view.y += far()), ArrowDown: () => (view.y -= far()),
    "+": () => zoom(1.3), "=": () => zoom(1.3), "-": () => zoom(1 / 1.3), 0: home,
    Enter: () => under !== null && self.send("chosen", under),
    Escape: () => setArea(null, [], true),
  };
  on(stage, "keydown", (event) => {
    if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    keys[event.key]();
    centred = true;
    hover(view.x, view.y);
    redraw();
  });
  on(stage, "blur", () => { centred = false; paintOver(); });
  function home() {
    Object.assign(view, { x: 32768, y: 32768, scale: fit });
    redraw();
  }
  function lasso(state) {
    lassoing = state;
    find("lasso").setAttribute("aria-pressed", String(state));
    stage.classList.toggle("drawing", state);
  }
  on(find("lasso"), "click", () => lasso(!lassoing));
  on(find("in"), "click", () => zoom(1.5));
  on(find("out"), "click", () => zoom(1 / 1.5));
  on(find("home"), "click", home);
  on(find("all"), "click", () => { hidden.clear(); filtered(); });
  on(find("shown"), "click", () => setArea([], [...hidden], true));
  on(find("none"), "click", () => setArea(null, [...hidden], true));
  on(find("save"), "click", () => {
    paint(); // the WebGL picture lasts only until the browser has shown it
    savePicture([layer.canvas, names, over], header, hidden, ratio);
  });

  function end() {
    listeners.abort();
    watch.disconnect();
    cancelAnimationFrame(waiting);
    clearTimeout(timer);
    layer.end();
    delete root.dataset.drawn;
    if (maps.get(header.name) === self) maps.delete(header.name);
  }
  changed();
  resize();
  for (const other of linked().slice(0, 1).map((one) => one.selected())) {
    hide(other.from);
    choose(other.flags);
  }
  let turns = Date.now();
  searchBox(root, points.search, on, {
    show: showOnAll,
    open: (row) => { self.ring(row); self.send("chosen", row); },
    fit: fitTo,
    add: (entries) => self.send("list", { turn: ++turns, entries }),
  });
  if (early) {
    self.ask = early.ask;
    receive(early);
  }
  return self;
}
