// The search box and its results next to the map. All of it runs in the browser: what is typed is sent nowhere, unless its user
// presses "Search by meaning". Then the page passes it to the endpoint.

const MOST_LISTED = 300;
const TYPING_MS = 120;
const FIT_MS = 500; // after the last letter

/** What is typed goes along to other maps and pages, in the memory of this browser tab. */
const typed = (globalThis.clinicalSearch ??= { query: "" });

/** Reads the compressed table of a map; resolves to an index, or to null where there is none. */
async function readIndex(bytes) {
  if (!bytes.length) return null;
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  const { table, terms } = JSON.parse(await new Response(stream).text());
  return buildIndex(table, terms);
}

/** Keeps the user's list in this tab. A new session has none: it gets the one of the session before, once. */
function keepList({ session, table, codes, excluded }, restore) {
  const name = `clinical-list-${table}`;
  const before = codes.length ? null : sessionStorage.getItem(name);
  const known = (typed.lists ??= new Set()).has(`${session} ${table}`);
  typed.lists.add(`${session} ${table}`);
  if (before && !known) setTimeout(() => restore(JSON.parse(before))); // the map that is opened cannot send yet
  else if (codes.length) sessionStorage.setItem(name, JSON.stringify({ codes, excluded }));
  else sessionStorage.removeItem(name);
}

/**
 * Connects the search box. `show(rows or null)` marks rows of the map, `open(row, code)` shows a card, `fit(rows)` zooms,
 * `change(entries, out, kept)` puts entries of the table on the list or excludes them, or restores a kept list, `ask(phrase)` searches by meaning (null where the page cannot), `say(words)` tells screen readers.
 * Returns what takes the server's answers, or null where there is no search.
 */
function searchBox(root, bytes, on, { show, open, fit, change, ask, say }) {
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
    const query = (typed.query = input.value);
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
    if (news.kept) keepList(news.kept, (kept) => change([], false, kept));
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
    if (found.both?.length) {
      const read = found.first === "own" ? "this table" : "the other ICD version, as most of these";
      lines.push(["", `Codes of both ICD versions, read as ${read}: ${some(found.both)}`]);
    }
    if (found.beside?.length) lines.push(["", `Codes beside these, not read: ${some(found.beside)}`]);
    if (found.passed) lines.push(["", `Lines without a code: ${found.passed.toLocaleString("en")}`]);
    if (!found.entries.length) lines.push(["", "No code has these words."]);
    else if (found.fewer) lines.push(["", "No code has all of these words; shown: codes with some of them."]);
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
      if (all.length > 1) lines.push(line(category, title(category), null, all, `${category} and all ${all.length} below it`));
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
    const other = found.by === "words" && !found.meant.length ? otherName(index, entry, input.value) : "";
    return line(code, before + index.table.descriptions[entry], drawn(entry), [entry], code, other);
  }
  function line(code, words, row, entries, name, other = "") {
    const item = document.createElement("div");
    item.className = `hit${entries.length > 1 ? " heading" : row === null ? " absent" : ""}`;
    item.id = `hit-${code}${entries.length > 1 ? "-all" : ""}`;
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", "false");
    const text = document.createElement("span");
    text.append(Object.assign(document.createElement("b"), { textContent: code }), ` ${words}${row === null && entries.length === 1 ? " (not on this map)" : ""}`);
    if (other) text.append(" = ", Object.assign(document.createElement("b"), { textContent: other }));
    // An option may hold no button: by keyboard it is Enter with Control or Alt.
    const [plus, minus] = [["+", `Add ${name}`], ["−", `Exclude ${name}`]].map(([textContent, title]) =>
      Object.assign(document.createElement("span"), { className: "plus", textContent, title }));
    for (const sign of [plus, minus]) sign.setAttribute("aria-hidden", "true");
    item.append(text, plus, minus);
    item.take = () => change(entries, false);
    item.leave = () => exclude(entries);
    item.enter = () => (row !== null ? openHit(row, code) : item.take());
    item.onclick = ({ target }) => (target === plus ? item.take() : target === minus ? item.leave() : row !== null && openHit(row, code));
    return item;
  }
  function exclude(entries) {
    change(entries, true);
    say(`${entries.length.toLocaleString("en")} ${entries.length === 1 ? "code is" : "codes are"} excluded from your list`);
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
    // A text box has one line: a sign stands for the line ends of what was pasted, because of a table only one column is codes.
    const text = event.clipboardData.getData("text");
    if (!/[\r\n]/.test(text)) return;
    event.preventDefault();
    const lines = text.split(/[\r\n]+/).filter((one) => one.trim());
    input.setRangeText(lines.join(` ${LINE_END} `), input.selectionStart, input.selectionEnd, "end");
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
      else if (line) event.ctrlKey ? line.take() : event.altKey ? line.leave() : line.enter();
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
  on(find("take"), "click", (event) => found && (event.altKey ? exclude(found.entries) : change(found.entries, false)));
  input.value ||= typed.query;
  if (input.value) load();
  if (globalThis.requestIdleCallback) requestIdleCallback(load, { timeout: 3000 });
  else setTimeout(load, 500);
  return { receive };
}
