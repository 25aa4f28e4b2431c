// The search box and its results next to the map. All of it runs in the browser: what is typed is sent nowhere, unless its user
// presses "Search by meaning". Then the page passes it to the endpoint.

const MOST_LISTED = 300;
const TYPING_MS = 120;
const FIT_MS = 500; // after the last letter

/** Reads the compressed table of a map; resolves to an index, or to null where there is none. */
async function readIndex(bytes) {
  if (!bytes.length) return null;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { table, terms } = JSON.parse(await new Response(stream).text());
  return buildIndex(table, terms);
}

/**
 * Connects the search box. `show(rows or null)` marks rows of the map, `open(row, code)` shows a card, `fit(rows)` zooms,
 * `add(entries)` puts entries of the table on the list, `ask(phrase)` searches by meaning (null where the page cannot), `say(words)` tells screen readers.
 * Returns what takes the server's answers, or null where there is no search.
 */
function searchBox(root, bytes, on, { show, open, fit, add, ask, say }) {
  const find = (name) => root.querySelector(`.${name}`);
  const [box, results, about, hits, count, meaning] = ["find", "results", "about", "hits", "count", "meaning"].map(find);
  const input = box.querySelector("input");
  let index = null, reading = null, found = null, rows = [], timer = 0, fitting = 0, active = -1, answered = 0, listed = null;
  box.hidden = !bytes.length;
  if (!bytes.length) return null;

  const drawn = (entry) => (index.table.rows ? index.table.rows[entry] : entry);
  function load() {
    return (reading ??= readIndex(bytes).then((read) => { index = read; run(); }));
  }
  function run() {
    clearTimeout(timer);
    timer = 0;
    const query = input.value;
    if (!index || !query.trim()) {
      if (!query.trim()) { count.textContent = ""; clear(); }
      return;
    }
    present(search(index, query));
    const missing = found.entries.length - rows.length;
    count.textContent = `${found.entries.length.toLocaleString("en")} found${missing ? `, ${missing.toLocaleString("en")} of them not on this map` : ""}`;
    meaning.hidden = !ask || found.by !== "words";
    explain();
    list();
  }
  function clear() {
    clearTimeout(fitting);
    found = null;
    rows = [];
    results.hidden = meaning.hidden = true;
    buttons(false);
    show(null);
  }
  /** Shows what was found on the map; lists and texts follow. */
  function present(next) {
    found = next;
    rows = found.entries.map(drawn).filter((row) => row !== null);
    active = -1;
    input.removeAttribute("aria-activedescendant");
    results.hidden = false;
    buttons(found.entries.length > 0);
    show(rows);
    clearTimeout(fitting);
    if (rows.length) fitting = setTimeout(() => fit(rows), FIT_MS);
  }
  /** What the server says: the number of codes on the list, and what is nearest in meaning to a phrase. */
  function receive(news) {
    if (news.listed != null && news.listed !== listed) {
      if (listed !== null) say(`${news.listed.toLocaleString("en")} codes are on your list`);
      listed = news.listed;
      find("mine").hidden = !listed;
      find("mine").textContent = `My list: ${listed.toLocaleString("en")}`;
    }
    if (news.meaning && news.meaning.turn > answered) {
      answered = news.meaning.turn;
      load().then(() => nearest(news.meaning));
    }
  }
  function nearest({ rows: near, scores, said }) {
    const entryOf = new Map(index.table.codes.map((_, entry) => [drawn(entry), entry]));
    present({ entries: near.map((row) => entryOf.get(row)), by: "meaning", meant: [], typed: [], mapped: [], unknown: [] });
    if (said) show(null);
    count.textContent = said ? "" : `${near.length} nearest in meaning`;
    meaning.hidden = true;
    about.textContent = said || "Nearest in the model’s own space, by cosine similarity:";
    hits.replaceChildren(...found.entries.map((entry, i) => entryLine(entry, `${scores[i].toFixed(2)} `)));
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
    if (!found.entries.length) lines.push(["", "No code has these words."]);
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
        lines.push(entryLine(entry));
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
  function entryLine(entry, before = "") {
    const code = index.table.codes[entry];
    return line(code, before + index.table.descriptions[entry], drawn(entry), [entry], `Add ${code}`);
  }
  function line(code, words, row, entries, name) {
    const item = document.createElement("div");
    item.className = `hit${entries.length > 1 ? " heading" : row === null ? " absent" : ""}`;
    item.id = `hit-${code}${entries.length > 1 ? "-all" : ""}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    const text = document.createElement("span");
    text.append(Object.assign(document.createElement("b"), { textContent: code }), ` ${words}${row === null && entries.length === 1 ? " (not on this map)" : ""}`);
    // An option may hold no button: by keyboard it is Control and Enter.
    const plus = Object.assign(document.createElement("span"), { className: "plus", textContent: "+", title: name });
    plus.setAttribute("aria-hidden", "true");
    item.append(text, plus);
    item.onclick = (event) => (event.target === plus ? add(entries) : row !== null && openHit(row, code));
    item.take = () => add(entries);
    item.enter = () => (row !== null ? openHit(row, code) : add(entries));
    return item;
  }
  function openHit(row, code) {
    clearTimeout(fitting);
    fit(rows);
    open(row, code);
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
  on(meaning, "click", () => {
    meaning.hidden = true;
    about.textContent = "Asking the endpoint …";
    ask(input.value);
    input.focus();
  });
  on(find("mine"), "click", () => {
    const place = document.querySelector(".st-key-my-list");
    place?.scrollIntoView({ block: "start" });
    // The heading is there before the buttons below it, which a slow server sends later.
    const heading = place?.querySelector("h2");
    heading?.setAttribute("tabindex", "-1");
    heading?.focus({ preventScroll: true });
  });
  on(document, "keydown", (event) => {
    if (event.key !== "k" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    input.focus();
    input.select();
  });
  // Ready to type into, where that takes the focus from nothing and brings up no keyboard over the map.
  const { top, bottom } = box.getBoundingClientRect();
  if (document.activeElement === document.body && top >= 0 && bottom <= innerHeight && matchMedia("(pointer: fine)").matches) {
    input.focus({ preventScroll: true });
  }
  on(find("take"), "click", () => found && add(found.entries));
  if (globalThis.requestIdleCallback) requestIdleCallback(load, { timeout: 3000 });
  else setTimeout(load, 500);
  return { receive };
}
