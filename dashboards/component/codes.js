// Codes in every form that users type or paste: single and open ones, ranges, lists, and tables with a column of codes. No DOM.

const LINE_END = "⏎"; // of pasted text in the search box, which has one line
const SYSTEM = /^(?:icd[- ]?(?:9|10)(?:[- ]?cm)?|icd)\s*[:=]\s*/i;
const CODE = /^[A-Z]?\d[0-9A-Z]{0,2}(?:\.?[0-9A-Z]{1,4})?$/;
const OPEN = /(?:[*%]|\.?[-–]|\.?[xX]{1,2})$/;
const SHORTEST = 3; // of a code in a list: "35" next to a code is a number
const BULLET = /^\s*(?:\d{1,2}[.)]|[-•*])\s+/;
const SPACED_RANGE = /([A-Za-z]?\d[0-9A-Za-z.]*)[ \t]+(?:[-–]|to)[ \t]+(?=[A-Za-z]?\d)/gi; // within a line: "- " also begins one

/**
 * The result where everything typed is a code, a range, an open code, or a table with a column of codes; else null.
 *
 * A code that both ICD versions have is read as one of this table, unless more of the others are codes of the other version alone.
 */
function asCodes(index, query) {
  const whole = query.replace(SPACED_RANGE, "$1-").split(/[\r\n⏎]+/).filter((line) => line.trim());
  const lines = whole.length > 1 ? whole.map((line) => line.replace(BULLET, "")) : whole;
  const cells = lines.flatMap((line) => line.split(/\t|,(?=\s*")|(?<=")\s*,/));
  const items = cells.flatMap((cell) => cell.split(/[\s,;|]+/)).map(cleaned).filter(Boolean);
  if (!items.length) return null;
  const number = lines.length > 1 ? null : { own: [], mapped: [] };
  const ofItem = (item) => (items.length > 1 && item.length < SHORTEST ? number : ofCode(index, item));
  let read = items.map((item) => ({ item, entries: ofItem(item) })), passed = 0, beside = [];
  if (read.every(({ entries }) => entries === null)) return null;
  if (read.some(({ entries }) => entries === null)) {
    if (lines.length < 2) return null;
    const all = read.filter(({ entries }) => entries && entries.own.length + entries.mapped.length).map(({ item }) => item);
    read = columnOfCodes(lines.map((line) => line.split(/[\t,;]/)), ofItem);
    const taken = new Set(read.map(({ item }) => item));
    beside = [...new Set(all.filter((item) => !taken.has(item)))];
    passed = read.filter(({ entries }) => entries === null).length;
    if (2 * passed > read.length) return null;
    read = read.filter(({ entries }) => entries !== null);
  }
  const only = (one, other) => read.filter(({ entries }) => entries[one].length && !entries[other].length).length;
  const first = only("mapped", "own") > only("own", "mapped") ? "mapped" : "own";
  const found = { entries: [], by: "codes", meant: [], unknown: [], mapped: [], both: [], typed: [], read: read.length, passed, beside, first };
  const seen = new Set();
  for (const { item, entries: { own, mapped } } of read) {
    if (own.length && mapped.length) found.both.push(item);
    const taken = first === "own" ? (own.length ? own : mapped) : (mapped.length ? mapped : own);
    if (!taken.length) found.unknown.push(item);
    else if (taken === mapped) found.mapped.push(item);
    for (const entry of taken) if (!seen.has(entry)) { seen.add(entry); found.entries.push(entry); }
  }
  // One word such as "b12" is rather a word than a code that does not exist.
  return found.entries.length || read.length > 1 || /\d.*\d/.test(query) ? found : null;
}

/** Of a table the column with the most codes, the first of equals; of a cell its first word where the whole is no code. */
function columnOfCodes(rows, ofItem) {
  const readCell = (cell = "") => {
    const read = [cleaned(cell), cleaned(cell.trim().split(/\s+/)[0])].map((item) => ({ item, entries: ofItem(item) }));
    return read.find(({ entries }) => entries !== null) ?? read[0];
  };
  let best = [], most = -1;
  for (let column = 0; column < Math.max(...rows.map((row) => row.length)); column++) {
    const read = rows.map((row) => readCell(row[column]));
    const count = read.filter(({ entries }) => entries && entries.own.length + entries.mapped.length).length;
    if (count > most) [best, most] = [read, count];
  }
  return best;
}

function cleaned(cell) {
  return cell.trim().replace(/^['"“”‘’([]+|['"“”‘’)\].,;]+$/g, "").replace(SYSTEM, "").replace(/^['"]+|['"]+$/g, "");
}

/** Entries of one code in any form: {own, mapped} of this table and by the other version's codes; null for what is no code. */
function ofCode(index, item) {
  const forms = formsOf(item);
  if (!forms.length) return null;
  const firstOf = (entriesOf) => forms.map(entriesOf).find((entries) => entries.length) ?? [];
  const { sorted, entries } = index.others;
  return {
    own: firstOf(({ low, high, dot }) =>
      between(index.sorted, low, high).map((i) => index.order[i]).filter((entry) => !dot || index.table.codes[entry].split(".")[0].length === dot)),
    mapped: firstOf(({ low, high, dot }) =>
      between(sorted, low, high).filter((i) => !dot || dotOfOther(index, sorted[i]) === dot).flatMap((i) => entries.get(sorted[i]))),
  };
}

/** Where a code of the other version has its dot: its E codes have four characters before it where it is ICD-9, whose codes begin with digits. */
function dotOfOther(index, code) {
  return code[0] === "E" && /^\d/.test(index.others.sorted[0]) ? 4 : 3;
}

/**
 * What a code may mean, as {low, high} without dots and the place of the dot: a range, the code and all below it, what an open code
 * begins with. E86.0 is dehydration and E860 the poisoning of ICD-9's E860.0: only the dot tells them apart.
 */
function formsOf(item) {
  const bare = (code) => code.toUpperCase().replace(/\.$/, "").replace(".", "");
  const isCode = (code) => CODE.test(code.toUpperCase().replace(/\.$/, ""));
  const dotOf = (code) => Math.max(code.indexOf("."), 0);
  const range = item.match(/^([A-Za-z]?\d[0-9A-Za-z.]*)\s*[-–:]\s*([A-Za-z]?\d[0-9A-Za-z.]*)$/);
  if (range) {
    const [, low, high] = range;
    return isCode(low) && isCode(high) ? [{ low: bare(low), high: bare(high), dot: dotOf(low) || dotOf(high) }] : [];
  }
  const open = OPEN.test(item) ? item.replace(OPEN, "") : "";
  return [item, open].filter((form) => form && isCode(form)).map((form) => ({ low: bare(form), high: bare(form), dot: dotOf(item) }));
}
