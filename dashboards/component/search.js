// Search over a whole code table: codes in every usual form, words, and what else a code is called. No drawing and no DOM;
// nothing typed is sent anywhere. `buildIndex` takes what the map artifact has, `search` what a user typed.

const STOP = new Set("a an and at by for from in of on or the to with due".split(" "));
const ROMAN = { ii: "2", iii: "3", iv: "4", vi: "6", vii: "7", viii: "8", ix: "9", one: "1", two: "2", three: "3" };
const MOST_EDITS = 6; // words that one typing error may have meant
const LATER = /sequela|subsequent encounter/; // listed after the first encounter
const FIRST = 2, SECOND = 1; // weight of a word in the description, and in other names of the code

/** One spelling for British and American, singular and plural, arabic and roman; words without accents. */
function wordsOf(text) {
  const plain = text.normalize("NFD").replace(/[\u0300-\u036f]/g, "").toLowerCase().replace(/['’]/g, "");
  return (plain.match(/[a-z]+|\d+/g) ?? []).map(spelling);
}

const spellings = new Map();
function spelling(word) {
  let one = spellings.get(word);
  if (one === undefined) {
    one = ROMAN[word] ?? word;
    if (one.length > 3) {
      one = one.replace(/ae|oe/g, "e").replace(/our(s|ed|ing|al|s?)$/, "or$1").replace(/^sulph/, "sulf").replace(/leuco/, "leuko");
      one = one.replace(/([bt])re(s?)$/, "$1er$2").replace(/is(e|ed|es|ing|ation|ations)$/, "iz$1").replace(/yse(d|s?)$/, "yze$1");
      if (/ies$/.test(one) && one.length > 5) one = one.replace(/ies$/, "y");
      else if (/(s|x|z|ch|sh)es$/.test(one)) one = one.slice(0, -2);
      else if (/[^sui]s$/.test(one)) one = one.slice(0, -1);
    }
    spellings.set(word, one);
  }
  return one;
}

/**
 * `table`: {codes, descriptions, rows, others} of the whole table; `terms`: {texts, nodes, headings, lay, names}.
 * `rows` has the row on the map, or null where a sample left the code out; `others` codes of the other version.
 */
function buildIndex(table, terms) {
  const bare = table.codes.map((code) => code.replace(".", ""));
  const order = Uint32Array.from(bare.keys()).sort((a, b) => (bare[a] < bare[b] ? -1 : bare[a] > bare[b] ? 1 : 0));
  const index = { table, terms, bare, order, sorted: Array.from(order, (i) => bare[i]), words: new Map(), lengths: [], joined: [] };
  index.exact = new Map(bare.map((code, i) => [code, i]));
  const post = (word, entry, weight) => {
    let list = index.words.get(word);
    if (!list) index.words.set(word, (list = { entries: [], weights: [] }));
    if (list.entries.at(-1) === entry) list.weights[list.weights.length - 1] = Math.max(list.weights.at(-1), weight);
    else { list.entries.push(entry); list.weights.push(weight); }
  };
  const texts = terms.texts.map((text) => [...new Set(wordsOf(text))].filter((word) => !STOP.has(word)));
  table.descriptions.forEach((description, i) => {
    const own = wordsOf(description);
    index.lengths.push(own.length + (LATER.test(description) ? 20 : 0));
    index.joined.push(` ${own.join(" ")} `);
    for (const word of new Set(own)) if (!STOP.has(word)) post(word, i, FIRST);
    for (let end = 3; end <= bare[i].length; end++) {
      for (const text of terms.nodes[bare[i].slice(0, end)] ?? []) for (const word of texts[text]) post(word, i, SECOND);
    }
  });
  index.vocabulary = [...index.words.keys()].sort();
  index.phrases = new Map();
  const phrase = (text, found) => {
    const key = wordsOf(text).join(" ");
    index.phrases.set(key, [...(index.phrases.get(key) ?? []), { text, ...found }]);
  };
  for (const [text, ...codes] of terms.lay ?? []) phrase(text, { codes });
  for (const names of terms.names ?? []) for (const name of names) phrase(name, { names: names.filter((other) => other !== name) });
  const others = new Map();
  (table.others ?? []).forEach((codes, i) => {
    for (const code of codes) others.set(code, [...(others.get(code) ?? []), i]);
  });
  index.others = { sorted: [...others.keys()].sort(), entries: others };
  return index;
}

/**
 * {entries, by: "codes" | "words", meant: [{text, title}], unknown: [codes], mapped: [codes], typed: [[typed, meant]]}; `fewer` where no
 * code has all of the words. For codes also `both`: those of both ICD versions, `beside`: of a table the codes in other columns,
 * and `passed`: its lines without a code.
 */
function search(index, query) {
  const listed = asCodes(index, query);
  if (listed) return listed;
  const words = wordsOf(query);
  const found = { entries: [], by: "words", meant: [], unknown: [], mapped: [], typed: [] };
  if (!words.length) return found;
  const scores = new Map();
  const add = (entry, score) => scores.set(entry, Math.max(scores.get(entry) ?? 0, score));
  const known = knownPhrases(index, words);
  for (const { start, end, other } of known) {
    const rest = [...words.slice(0, start), ...words.slice(end)].filter((word) => !STOP.has(word));
    const bonus = rest.length ? 0 : 20;
    const among = rest.length ? byWords(index, rest, found) : null;
    if (other.codes) {
      other.codes.forEach((code, place) => {
        for (const entry of below(index, code)) {
          if (!among) add(entry, 60 - Math.min(place, 15) + shortness(index, entry));
          else if (among.has(entry)) add(entry, 50 + among.get(entry));
        }
      });
      found.meant.push({ text: other.text, codes: other.codes });
    } else {
      for (const name of other.names) {
        const scored = byWords(index, [...rest, ...wordsOf(name)], null);
        for (const [entry, score] of scored) add(entry, bonus + score);
        if (scored.size) found.meant.push({ text: other.text, name });
      }
    }
  }
  const whole = known.some(({ start, end }) => start === 0 && end === words.length);
  for (const [entry, score] of byWords(index, words, whole ? null : found, whole)) add(entry, score + phraseBonus(index, entry, words));
  found.fewer = !scores.size;
  if (!scores.size) {
    for (const { other } of known) for (const code of other.codes ?? []) for (const entry of below(index, code)) add(entry, 1);
  }
  if (!scores.size) for (const [entry, score] of byFewerWords(index, words)) add(entry, score);
  found.entries = [...scores.keys()].sort((a, b) => scores.get(b) - scores.get(a) || (index.bare[a] < index.bare[b] ? -1 : 1));
  found.scores = found.entries.map((entry) => scores.get(entry));
  return found;
}

function shortness(index, entry) {
  return 3 / (2 + index.lengths[entry]);
}

function phraseBonus(index, entry, words) {
  const own = index.joined[entry];
  const asked = ` ${words.join(" ")} `;
  if (own === asked) return 30;
  if (own.startsWith(asked)) return 12;
  return own.includes(asked) ? 8 : 0;
}

/** The other name of a code, or of a heading above it, that has most of the typed words which its description lacks; or nothing. */
function otherName(index, entry, query) {
  const has = (words, asked) => words.some((word) => word.startsWith(asked));
  const own = wordsOf(index.table.descriptions[entry]);
  const lacking = [...new Set(wordsOf(query))].filter((word) => !STOP.has(word) && !has(own, word));
  let best = "", most = 0;
  for (let end = index.bare[entry].length; lacking.length && end >= 3; end--) {
    for (const text of index.terms.nodes[index.bare[entry].slice(0, end)] ?? []) {
      const words = wordsOf(index.terms.texts[text]);
      const count = lacking.filter((word) => has(words, word)).length;
      if (count > most) [best, most] = [index.terms.texts[text], count];
    }
  }
  return best;
}

/** Runs of words that are a known phrase, the longest first; a run inside a longer one is left out. */
function knownPhrases(index, words) {
  const taken = [], found = [];
  for (let length = Math.min(words.length, 8); length > 0; length--) {
    for (let start = 0; start + length <= words.length; start++) {
      const others = index.phrases.get(words.slice(start, start + length).join(" "));
      if (!others || taken.some(([a, b]) => start < b && a < start + length)) continue;
      taken.push([start, start + length]);
      for (const other of others) found.push({ start, end: start + length, other });
    }
  }
  return found;
}

/** entry -> score for entries that have every word, in the description or in another name. */
function byWords(index, words, found, exact = false) {
  const asked = [...new Set(words)].filter((word, _, all) => !STOP.has(word) || all.every((other) => STOP.has(other)));
  let scores = null;
  for (const word of asked) {
    const own = postings(index, word, found, exact);
    if (!scores) scores = own;
    else {
      const both = new Map();
      const [small, large] = own.size < scores.size ? [own, scores] : [scores, own];
      for (const [entry, weight] of small) if (large.has(entry)) both.set(entry, weight + large.get(entry));
      scores = both;
    }
    if (!scores.size) break;
  }
  for (const [entry, score] of scores ?? []) scores.set(entry, (6 * score) / (FIRST * asked.length) + shortness(index, entry));
  return scores ?? new Map();
}

/** Where nothing has all words: entries with at least half of them, rare words first. */
function byFewerWords(index, words) {
  const scores = new Map();
  const asked = [...new Set(words)].filter((word) => !STOP.has(word));
  const count = new Map();
  for (const word of asked) {
    const own = postings(index, word, null);
    const rarity = Math.log(1 + index.bare.length / (1 + own.size));
    for (const [entry, weight] of own) {
      scores.set(entry, (scores.get(entry) ?? 0) + (weight * rarity) / 10);
      count.set(entry, (count.get(entry) ?? 0) + 1);
    }
  }
  for (const entry of scores.keys()) if (2 * count.get(entry) < asked.length) scores.delete(entry);
  return scores;
}

/** entry -> weight for one typed word: the word itself; else words that begin with it; else words one edit away. */
function postings(index, word, found, exact = false) {
  const scores = new Map();
  const take = (known, share) => {
    const { entries, weights } = index.words.get(known);
    entries.forEach((entry, i) => scores.set(entry, Math.max(scores.get(entry) ?? 0, share * weights[i])));
  };
  if (index.words.has(word)) take(word, 1);
  else if (word.length > 2 && !exact) {
    for (let i = firstAtLeast(index.vocabulary, word); index.vocabulary[i]?.startsWith(word); i++) take(index.vocabulary[i], 0.8);
    if (!scores.size && word.length > 3) {
      for (const [place, known] of oneEditAway(index, word).entries()) {
        take(known, 0.7 - 0.05 * place);
        found?.typed.push([word, known]);
      }
    }
  }
  return scores;
}

/** Words of the vocabulary that one letter left out, put in, exchanged with its neighbour or replaced makes of `word`. */
function oneEditAway(index, word) {
  const letters = "abcdefghijklmnopqrstuvwxyz";
  const left = [], replaced = [];
  for (let at = 0; at <= word.length; at++) {
    const [head, tail] = [word.slice(0, at), word.slice(at)];
    for (const letter of letters) left.push(head + letter + tail);
    if (tail.length > 1) left.push(head + tail[1] + tail[0] + tail.slice(2));
    if (tail) left.push(head + tail.slice(1));
    if (tail) for (const letter of letters) replaced.push(head + letter + tail.slice(1));
  }
  const known = (some) => [...new Set(some)].filter((other) => other.length > 3 && index.words.has(other));
  const often = (a, b) => index.words.get(b).entries.length - index.words.get(a).entries.length;
  return [...known(left).sort(often), ...known(replaced).sort(often)].slice(0, MOST_EDITS);
}

function firstAtLeast(sorted, value) {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] < value) low = middle + 1;
    else high = middle;
  }
  return low;
}

/** Entries whose code begins with `start` (without dot), by code. */
function below(index, start) {
  return between(index.sorted, start, start).map((i) => index.order[i]);
}

/** Places in a sorted list of codes from `low` to `high`, and of all that begin with `high`. */
function between(sorted, low, high) {
  const found = [];
  for (let i = firstAtLeast(sorted, low); i < sorted.length && (sorted[i] <= high || sorted[i].startsWith(high)); i++) found.push(i);
  return found;
}
