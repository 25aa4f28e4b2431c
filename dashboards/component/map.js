// The map: view, points, marks, selection and what the server adds. On hover it requests only texts from the server, never points.
// What the server adds later (marks, texts, an area from a link) comes through companion.js, by the map's name.

const MOST_CORNERS = 48;
const REACH = 12; // CSS pixels within which a point is under the pointer
const STEP = 60; // CSS pixels that an arrow key moves
const ASK_AFTER_MS = 80;
const SEEN = 80; // CSS pixels of a map on the screen, so that it counts as in view
const MOST_RINGS = 200; // more found points are told apart by the layer alone
const MARKS = {
  found: { path: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0Z", size: 7 },
  near: { path: "M-1-1H1V1H-1Z", size: 7 },
  chosen: { path: "M-1 0a1 1 0 1 0 2 0a1 1 0 1 0-2 0ZM-1.5 0a1.5 1.5 0 1 0 3 0a1.5 1.5 0 1 0-3 0Z", size: 8 },
};
const HOW = { new: "replaces", add: "adds", subtract: "subtracts" };

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
  const [stage, tip, status, list, said] = ["stage", "tip", "status", "groups", "said"].map(find);
  const hidden = new Set(), texts = new Map(), past = makeHistory();
  const layer = glLayer(points) ?? plainLayer(points);
  const [dense, names, over] = ["dense", "names", "over"].map(() => document.createElement("canvas"));
  const pen = over.getContext("2d");
  const view = makeView(redraw);
  const self = { send: () => {}, ask: null, receive, choose, follow, ring, hide, showFound, fitTo, selected, link: header.link, end };
  let lassoing = false, mode = "new", line = null, under = null, centred = false, density = false;
  let marks = null, areas = null, flags = null, found = null, rings = [], turn = -1, waiting = 0, timer = 0;
  let theme = themeOf(root), placed = [], hexes = null, box = null;

  stage.setAttribute("aria-label", header.label);
  root.style.setProperty("--height", `${header.height}px`);
  stage.querySelectorAll("canvas").forEach((old) => old.remove());
  stage.prepend(layer.canvas, dense, names, over);
  buildLegend(list, header.groups, hidden, filtered);
  find("legend").hidden = !header.legend;
  layer.onrestored = redraw;
  const watch = new ResizeObserver(() => resize());
  watch.observe(stage);
  const early = maps.get(header.name)?.early;
  maps.set(header.name, self);
  const listeners = new AbortController();
  const on = (target, kind, run, options = {}) => target.addEventListener(kind, run, { signal: listeners.signal, ...options });

  // --- drawing
  function resize(ratio = Math.min(globalThis.devicePixelRatio || 1, 2)) {
    const { width, height } = stage.getBoundingClientRect();
    if (!width) return;
    for (const canvas of [layer.canvas, dense, names, over]) {
      canvas.width = Math.round(width * ratio);
      canvas.height = Math.round(height * ratio);
    }
    view.resize(over.width, over.height, ratio);
  }
  function redraw() {
    if (!waiting) waiting = requestAnimationFrame(() => paint());
  }
  function paint(colours = theme, still = false) {
    waiting = 0;
    const base = header.count <= 2000 ? 9 : header.count <= 20000 ? 6 : 4.5;
    view.size = base * view.ratio * Math.min(Math.max(view.zoom ** 0.4, 1), 4);
    layer.canvas.hidden = density;
    dense.hidden = !density;
    hexes = null;
    if (density) {
      hexes = hexagons(points, { radius: (HEXAGON * view.ratio) / view.scale, hidden, flags: found ?? flags, within: view.bounds });
      drawDensity(dense, hexes, view.onScreen, HEXAGON * view.ratio, colours);
    } else layer.draw(view, looksOf(header.groups, hidden, colours));
    find("scale").textContent = density ? `at most ${mostIn(hexes).toLocaleString("en")} ${header.unit} in a hexagon` : "";
    // On a canvas of their own: a pointer that moves repaints the marks alone.
    placed = drawLabels(header.labels ?? [], view.onScreen, names, { ratio: view.ratio, zoom: view.zoom, theme: colours });
    paintOver(colours, still);
    Object.assign(root.dataset, { drawn: header.count, zoom: view.zoom.toFixed(2), ringed: rings.length, theme: theme.dark ? "dark" : "light" });
  }
  /** Marks, and unless the picture is to be still, what follows the pointer. */
  function paintOver(colours = theme, still = false) {
    const { ratio } = view;
    pen.clearRect(0, 0, over.width, over.height);
    for (const row of rings) sign(row, MARKS.found, colours);
    for (const { kind, rows } of marks ?? []) rows.forEach((row) => sign(row, MARKS[kind], colours));
    if (still) return;
    if (under !== null) sign(under, { ...MARKS.found, size: 9 }, colours);
    pen.strokeStyle = colours.ink;
    if (line) {
      pen.beginPath();
      line.forEach(([x, y]) => pen.lineTo(...view.onScreen(x, y)));
      pen.setLineDash([6 * view.ratio, 4 * view.ratio]);
      pen.lineWidth = 1.5 * view.ratio;
      pen.stroke();
      pen.setLineDash([]);
    }
    if (centred) {
      const [x, y, arm] = [over.width / 2, over.height / 2, 10 * view.ratio];
      pen.lineWidth = view.ratio;
      pen.strokeRect(x - arm, y, 2 * arm, 0.5);
      pen.strokeRect(x, y - arm, 0.5, 2 * arm);
    }
  }
  function sign(row, { path, size }, colours) {
    pen.save();
    pen.translate(...at(row));
    pen.scale(size * view.ratio, size * view.ratio);
    const shape = new Path2D(path);
    for (const [colour, width] of [[colours.paper, 4], [colours.ink, 2]]) {
      pen.strokeStyle = colour;
      pen.lineWidth = width / size;
      pen.stroke(shape);
    }
    pen.restore();
  }
  function at(row) {
    return view.onScreen(points.places[2 * row], points.places[2 * row + 1]);
  }
  function onMap(event) {
    const { left, top } = stage.getBoundingClientRect();
    return view.onMap((event.clientX - left) * view.ratio, (event.clientY - top) * view.ratio);
  }

  function fitTo(rows) {
    view.fitTo(points.places, rows);
  }

  // --- one point
  function hover(place) {
    const [row] = place ? near(points, ...place, (REACH * view.ratio) / view.scale, hidden, 1) : [];
    if ((row ?? null) === under) return;
    under = row ?? null;
    for (const other of linked()) other.ring(under);
    showTip(...(place ?? []));
    paintOver();
  }
  function showTip(x, y) {
    clearTimeout(timer);
    tip.hidden = under === null;
    if (under === null) return;
    const lines = [...(texts.get(under) ?? []), header.groups[points.groups[under]].name];
    tip.replaceChildren(...lines.map((words) => Object.assign(document.createElement("div"), { textContent: words })));
    if (centred && texts.has(under)) say(lines.join(", "));
    const [px, py] = at(under).map((value) => value / view.ratio);
    const [room, floor] = [over.width / view.ratio, over.height / view.ratio];
    tip.style.left = px > room / 2 ? "" : `${px + 14}px`;
    tip.style.right = px > room / 2 ? `${room - px + 14}px` : "";
    tip.style.top = py > floor / 2 ? "" : `${Math.max(py - 10, 4)}px`;
    tip.style.bottom = py > floor / 2 ? `${Math.max(floor - py - 10, 4)}px` : "";
    if (texts.has(under) || !self.ask) return;
    timer = setTimeout(() => {
      const unknown = near(points, x, y, (60 * view.ratio) / view.scale, hidden, 24).filter((row) => !texts.has(row));
      if (unknown.length) self.ask(unknown);
    }, ASK_AFTER_MS);
  }
  function say(words) {
    said.textContent = words;
  }
  function openCard(row, words = texts.get(row)?.join(", ") ?? "the chosen point") {
    self.send("chosen", row);
    say(`The card of ${words} is next to the map`);
  }
  function ring(row) {
    under = row;
    tip.hidden = true;
    paintOver();
  }
  function linked() {
    return header.link ? [...maps.values()].filter((other) => other !== self && other.link === header.link) : [];
  }

  // --- selection, search and groups
  function choose(chosen) {
    flags = chosen;
    layer.choose(found ?? flags);
    tell();
    redraw();
  }
  /** Shows what was selected on a linked map: the corners are places on that one. */
  function follow(chosen) {
    areas = null;
    choose(chosen);
  }
  /** Rows that a search found; null where there is no search. They are told apart until the search is cleared. */
  function showFound(rows) {
    found = rows && new Uint8Array(header.count);
    for (const row of rows ?? []) found[row] = 1;
    rings = rows && rows.length <= MOST_RINGS ? rows : [];
    if (!rows) view.back();
    layer.choose(found ?? flags);
    redraw();
  }
  function all(run) {
    [self, ...linked()].forEach(run);
  }
  function selected() {
    return { from: [...hidden], flags };
  }
  function setAreas(next, { notify = true, back = false } = {}) {
    if (!next && !flags) return;
    if (notify && !back) past.keep(areas);
    areas = next;
    const from = next?.at(-1)?.hidden;
    if (from) all((one) => one.hide(from));
    const chosen = selectedBy(points, areas);
    choose(chosen);
    for (const other of linked()) other.follow(chosen);
    find("undo").disabled = !past.steps;
    if (!notify) return;
    turn += 1;
    self.send("area", areas ? { turn, areas } : { turn });
  }
  function draw(corners, how) {
    if (how !== "new" && !areas && flags) say("An area cannot be combined with one on another map: it replaces the selection");
    const next = withArea(areas, corners, hidden, how);
    if (next) setAreas(next);
    else status.textContent = `A selection has at most ${MOST_AREAS} areas: clear it, or undo the last one`;
  }
  function undo() {
    if (past.steps) setAreas(past.undo() ?? null, { back: true });
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
  /** When a row is chosen in a table far from the map, the map comes into view; of linked maps the first. */
  function takeMarks(next) {
    const chosenIn = (from) => from.find(({ kind }) => kind === "chosen")?.rows[0];
    const other = marks && ![undefined, chosenIn(marks)].includes(chosenIn(next));
    marks = next;
    const { top, bottom } = stage.getBoundingClientRect();
    if (other && (header.legend || !header.link) && (bottom < SEEN || top > innerHeight - SEEN)) stage.scrollIntoView({ block: "center" });
  }
  function receive(news) {
    if (news.marks) takeMarks(news.marks);
    for (const [row, lines] of Object.entries(news.texts ?? {})) texts.set(Number(row), lines);
    if (news.area && news.area.turn > turn) {
      turn = news.area.turn;
      setAreas(news.area.areas ?? null, { notify: false });
    }
    if (under !== null && !tip.hidden) showTip(points.places[2 * under], points.places[2 * under + 1]);
    box?.receive(news);
    paintOver();
  }

  // --- hands
  const keys = {
    ArrowLeft: () => view.pan(STEP, 0), ArrowRight: () => view.pan(-STEP, 0), ArrowUp: () => view.pan(0, STEP), ArrowDown: () => view.pan(0, -STEP),
    "+": () => view.zoomBy(1.3), "=": () => view.zoomBy(1.3), "-": () => view.zoomBy(1 / 1.3), 0: view.whole,
    Enter: () => under !== null && openCard(under),
    Escape: () => setAreas(null),
  };
  const howOf = (event) => (event.shiftKey ? "add" : event.altKey ? "subtract" : mode);
  gestures(stage, on, onMap, {
    zoom: (factor, place) => view.zoomBy(factor, ...place),
    pan: view.pan,
    hover: (place) => { centred = false; hover(place); },
    pick: (place) => { hover(place); if (under !== null) openCard(under); },
    line: (drawn) => { line = drawn; paintOver(); },
    area: (drawn, how) => draw(thinned(drawn, MOST_CORNERS), how),
    how: (event) => (lassoing || event.shiftKey || event.altKey ? howOf(event) : null),
    key: (event) => {
      if ((event.ctrlKey || event.metaKey) && event.key === "z") undo();
      else if (!keys[event.key] || event.ctrlKey || event.metaKey || event.altKey) return false;
      else {
        keys[event.key]();
        centred = true;
        hover([view.x, view.y]);
        redraw();
      }
      return true;
    },
  });
  on(stage, "blur", () => { centred = false; paintOver(); });
  function press(name, state) {
    find(name).setAttribute("aria-pressed", String(state));
    return state;
  }
  function setMode(next) {
    mode = next;
    find("how").textContent = HOW[mode];
    find("how").setAttribute("aria-label", `The next area ${HOW[mode]}`);
  }
  on(find("lasso"), "click", () => {
    lassoing = press("lasso", !lassoing);
    find("how").hidden = !lassoing;
    setMode("new");
    stage.classList.toggle("drawing", lassoing);
  });
  on(find("how"), "click", () => setMode({ new: "add", add: "subtract", subtract: "new" }[mode]));
  on(find("in"), "click", () => view.zoomBy(1.5));
  on(find("out"), "click", () => view.zoomBy(1 / 1.5));
  on(find("home"), "click", view.whole);
  on(find("all"), "click", () => { hidden.clear(); filtered(); });
  on(find("shown"), "click", (event) => draw([], howOf(event)));
  on(find("none"), "click", () => setAreas(null));
  on(find("undo"), "click", undo);
  on(find("density"), "click", () => { density = press("density", !density); redraw(); });

  // --- pictures: dark on white, without what follows the pointer
  on(find("save"), "click", () => {
    const kept = view.ratio;
    resize(Math.max(view.ratio, Math.min(SHARP / stage.clientWidth, 4)));
    paint(LIGHT, true); // the WebGL picture lasts only until the browser has shown it
    savePicture([density ? dense : layer.canvas, names, over], header, hidden, view.ratio);
    resize(kept);
  });
  function asSvg() {
    paint(LIGHT, true);
    const size = { width: Math.round(over.width / view.ratio), height: Math.round(over.height / view.ratio) };
    const signs = [...rings, ...(marks ?? []).flatMap(({ rows }) => [...rows])].map((row) => at(row).map((value) => value / view.ratio));
    const small = { ...view, scale: view.scale / view.ratio, size: view.size / view.ratio };
    const labels = placed.map((label) => ({ ...label, x: label.x / view.ratio, y: label.y / view.ratio }));
    redraw();
    const looks = looksOf(header.groups, hidden, LIGHT);
    return svgOf({ points, header, looks, view: small, ...size, flags: found ?? flags, hexes, names: labels, rings: signs });
  }
  on(find("vector"), "click", () => download(new Blob([asSvg()], { type: "image/svg+xml" }), `${header.file}.svg`));
  on(find("print"), "click", () => printSvg(asSvg(), header.file));
  function dress() {
    theme = themeOf(root);
    paintLegend(list, looksOf(header.groups, hidden, theme));
    redraw();
  }
  watchTheme(root, on, dress);

  function end() {
    listeners.abort();
    watch.disconnect();
    cancelAnimationFrame(waiting);
    clearTimeout(timer);
    layer.end();
    delete root.dataset.drawn;
    if (maps.get(header.name) === self) maps.delete(header.name);
  }
  rove(find("bar"), on);
  rove(find("legend"), on);
  dress();
  changed();
  resize();
  for (const other of linked().slice(0, 1).map((one) => one.selected())) {
    hide(other.from);
    choose(other.flags);
  }
  let turns = Date.now();
  box = searchBox(root, points.search, on, {
    show: (rows) => all((one) => one.showFound(rows)),
    fit: (rows) => all((one) => one.fitTo(rows)),
    open: (row, words) => { self.ring(row); openCard(row, words); },
    change: (entries, out, kept) => self.send("list", { turn: ++turns, ...(kept ? { kept } : { entries, out }) }),
    ask: header.meaning ? (phrase) => self.send("meaning", { turn: ++turns, phrase }) : null,
    say,
  });
  // Next to a linked map with a search box, the map begins at the same height.
  self.searched = Boolean(box);
  find("find").classList.toggle("spare", !box && linked().some((other) => other.searched));
  if (early) {
    self.ask = early.ask;
    receive(early);
  }
  return self;
}
