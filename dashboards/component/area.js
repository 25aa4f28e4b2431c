// The selection: areas drawn one after another, each added to what was selected or taken from it. No drawing and no DOM.
// An area is {corners, hidden, out}: points inside the corners whose group was not hidden; no corners: all of those groups.

const MOST_AREAS = 20;
const MOST_STEPS = 20; // that can be undone

/** One byte a point: 1 where it is selected, as the server counts; null where nothing is. */
function selectedBy(points, areas) {
  if (!areas) return null;
  const flags = new Uint8Array(points.groups.length);
  for (const { corners, hidden, out } of areas) {
    const within = inside(points, corners, new Set(hidden));
    for (let i = 0; i < flags.length; i++) if (within[i]) flags[i] = out ? 0 : 1;
  }
  return flags;
}

/** The areas after one more: `how` is "new", "add" or "subtract". What is subtracted from nothing is subtracted from all shown. */
function withArea(areas, corners, hidden, how) {
  const area = { corners, hidden: [...hidden], out: how === "subtract" };
  if (how === "new") return [area];
  const before = areas ?? (area.out ? [{ corners: [], hidden: [...hidden], out: false }] : []);
  return [...before, area].length > MOST_AREAS ? null : [...before, area];
}

/** Selections one after another, of which the last ones can be undone. */
function makeHistory() {
  const past = [];
  return {
    keep(areas) {
      past.push(areas);
      if (past.length > MOST_STEPS) past.shift();
    },
    undo: () => past.pop(),
    get steps() { return past.length; },
  };
}
