// The search box and its results next to the map. All of it runs in the browser: what is typed is sent nowhere.

const MOST_LISTED = 300;
const TYPING_MS = 120;

/** Reads the compressed table of a map; resolves to an index, or to null where there is none. */
async function readIndex(bytes) {
  if (!bytes.length) return null;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { table, terms } = JSON.parse(await new Response(stream).text());
  return buildIndex(table, terms);
}

/**
 * Connects the search box. `show(rows or null)` marks rows of the map, `open(row)` shows a card, `fit(rows)` zooms,
 * `add(entries)` puts entries of the table on the list.
 */
function searchBox(root, bytes, on, { show, open, fit, add }) {
  const find = (name) => root.querySelector(`.${name}`);
  const [box, results, about, hits, count] = ["find", "results", "about", "hits", "count"].map(find);
  const input = box.querySelector("input");
  let index = null, reading = null, found = null, rows = [], timer = 0, active = -1;
  box.hidden = !bytes.length;
  if (!bytes.length) return;

  const drawn = (entry) => (index.table.rows ? index.table.rows[entry] : entry);
  function load() {
    reading ??= readIndex(bytes).then((read) => { index = read; run(); });
  }
  function run() {
    clearTimeout(timer);
    timer = 0;
    const query = input.value;
    if (!index || !query.trim()) {
      found = null;
      results.hidden = true;
      if (!query.trim()) count.textContent = "";
      buttons(false);
      show(null);
      return;
    }
    found = search(index, query);
    rows = found.entries.map(drawn).filter((row) => row !== null);
    const missing = found.entries.length - rows.length;
    count.textContent = `${found.entries.length.toLocaleString("en")} found${missing ? `, ${missing.toLocaleString("en")} of them not on this map` : ""}`;
    active = -1;
    explain();
    list();
    results.hidden = false;
    buttons(found.entries.length > 0);
    show(rows);
  }
  function buttons(some) {
    find("fit").hidden = !some || !rows.length;
    find("take").hidden = !some;
    input.setAttribute("aria-expanded", String(some));
  }
  function explain() {
    const lines = [];
    const meant = found.meant.slice(0, 3).map(({ text, name, codes }) => [text, name ?? titles(codes)]);
    for (const [text, means] of meant) lines.push([`“${text}”`, ` means ${means}`]);
    if (found.typed.length) lines.push(["", `Nothing has “${found.typed[0][0]}”; shown: ${[...new Set(found.typed.map((pair) => pair[1]))].join(", ")}`]);
    if (found.read > 1) lines.push(["", `${found.read} read as ${found.entries.length.toLocaleString("en")} codes`]);
    if (found.mapped.length) lines.push(["", `Of the other ICD version, mapped by GEM: ${some(found.mapped)}`]);
    if (found.unknown.length) lines.push(["", `Not in this table: ${some(found.unknown)}`]);
    if (!found.entries.length) lines.push(["", "No code has this. Search by meaning below the map."]);
    about.replaceChildren(...lines.map(([bold, words]) => {
      const line = document.createElement("div");
      line.append(Object.assign(document.createElement("b"), { textContent: bold }), words);
      return line;
    }));
  }
  function some(items) {
    return items.slice(0, 20).join(", ") + (items.length > 20 ? `, and ${(items.length - 20).toLocaleString("en")} more` : "");
  }
  function titles(codes) {
    return codes.slice(0, 4).map((code) => `${dotted(code)} ${title(code)}`.trim()).join("; ") + (codes.length > 4 ? " …" : "");
  }
  /** A beginning of codes as users write it: "I252" is "I25.2". */
  function dotted(start) {
    const code = index.table.codes[below(index, start)[0]] ?? start;
    return code.slice(0, start.length + (code.slice(0, start.length + 1).includes(".") && code[start.length] !== "." ? 1 : 0));
  }
  function title(start) {
    const texts = index.terms.nodes[start];
    if (texts && (index.headings ??= new Set(index.terms.headings)).has(start)) return index.terms.texts[texts[0]];
    const entry = index.exact.get(start);
    return entry === undefined ? "" : index.table.descriptions[entry];
  }
  function list() {
    const groups = new Map();
    for (const entry of found.entries.slice(0, MOST_LISTED)) {
      const category = index.table.codes[entry].split(".")[0];
      groups.set(category, [...(groups.get(category) ?? []), entry]);
    }
    const lines = [];
    for (const [category, entries] of groups) {
      const all = below(index, category.replace(".", ""));
      if (all.length > 1) lines.push(line(category, title(category), null, all, `Add ${category} and all ${all.length} below it`));
      for (const entry of entries) {
        lines.push(line(index.table.codes[entry], index.table.descriptions[entry], drawn(entry), [entry], `Add ${index.table.codes[entry]}`));
      }
    }
    if (found.entries.length > MOST_LISTED) {
      const more = document.createElement("div");
      more.className = "about";
      more.textContent = `The first ${MOST_LISTED} are listed; “Add all to list” takes all.`;
      lines.push(more);
    }
    hits.replaceChildren(...lines);
  }
  function line(code, words, row, entries, name) {
    const item = document.createElement("div");
    item.className = `hit${entries.length > 1 ? " heading" : row === null ? " absent" : ""}`;
    item.id = `hit-${code}${entries.length > 1 ? "-all" : ""}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    const text = document.createElement("span");
    text.append(Object.assign(document.createElement("b"), { textContent: code }), ` ${words}${row === null && entries.length === 1 ? " (not on this map)" : ""}`);
    const plus = Object.assign(document.createElement("button"), { type: "button", textContent: "+", title: name, tabIndex: -1 });
    plus.setAttribute("aria-label", name);
    item.append(text, plus);
    item.onclick = (event) => (event.target === plus ? add(entries) : row !== null && open(row));
    item.take = () => add(entries);
    item.enter = () => (row !== null ? open(row) : add(entries));
    return item;
  }
  function move(step) {
    const lines = [...hits.querySelectorAll(".hit")];
    if (!lines.length) return;
    lines[active]?.setAttribute("aria-selected", "false");
    active = Math.min(Math.max(active + step, 0), lines.length - 1);
    lines[active].setAttribute("aria-selected", "true");
    lines[active].scrollIntoView({ block: "nearest" });
    input.setAttribute("aria-activedescendant", lines[active].id);
  }
  on(input, "focus", load);
  on(input, "input", () => { load(); clearTimeout(timer); timer = setTimeout(run, TYPING_MS); });
  on(input, "paste", (event) => {
    // A text box has one line: what was pasted keeps its line ends as semicolons.
    const text = event.clipboardData.getData("text");
    if (!/[\r\n]/.test(text)) return;
    event.preventDefault();
    const lines = text.split(/[\r\n]+/).filter((one) => one.trim());
    input.setRangeText(lines.map((one) => one.split("\t")[0]).join("; "), input.selectionStart, input.selectionEnd, "end");
    load();
    run();
  });
  on(input, "keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 10, PageUp: -10 }[event.key];
    if (step) move(step);
    else if (event.key === "Escape") { input.value = ""; run(); }
    else if (event.key === "Enter") {
      if (timer) run(); // typed faster than it was searched
      const line = hits.querySelectorAll(".hit")[Math.max(active, 0)];
      if (active < 0) hits.querySelector(".hit:not(.heading)")?.enter();
      else event.ctrlKey ? line?.take() : line?.enter();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });
  on(find("fit"), "click", () => fit(rows));
  on(find("take"), "click", () => found && add(found.entries));
  if (globalThis.requestIdleCallback) requestIdleCallback(load, { timeout: 3000 });
  else setTimeout(load, 500);
}
