"""Runs the explorer's search in Node over a whole code table, with what ``map_codes`` publishes for it."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from clinical_modernbert.evaluation.codes.code_set import code_set
from clinical_modernbert.evaluation.codes.places import counterparts
from clinical_modernbert.evaluation.codes.search_terms import search_terms
from clinical_modernbert.sources.codes import Table

_FOLDER = Path(__file__).resolve().parents[2] / "dashboards" / "component"
_SCRIPT = """
const { readFileSync } = require("fs");
const [codes, words, data] = process.argv.slice(-3);
const source = [codes, words].map((name) => readFileSync(name, "utf8")).join(" ");
const { buildIndex, search } = new Function(source + "; return { buildIndex, search };")();
const { table, terms, queries } = JSON.parse(readFileSync(data, "utf8"));
const started = performance.now();
const index = buildIndex(table, terms);
const index_ms = performance.now() - started;
const answers = queries.map((query) => {
  const started = performance.now();
  const found = search(index, query);
  const ms = performance.now() - started;
  return { ...found, scores: undefined, ms, codes: found.entries.map((entry) => table.codes[entry]) };
});
process.stdout.write(JSON.stringify({ index_ms, answers }));
"""


def whole_table(table: Table) -> dict[str, Any]:
    """Return a code table and its terms in the form that the map sends to the browser."""
    codes = code_set(table, max_codes=None, seed=0).whole
    others = [[other.split(" ")[0].replace(".", "") for other in some] for some in counterparts(table, codes)]
    listed = {
        "codes": [entry.code for entry in codes],
        "descriptions": [entry.description for entry in codes],
        "rows": None,
        "others": others,
    }
    return {"table": listed, "terms": search_terms(table, codes)}


def run_search(data: dict[str, Any], queries: list[str]) -> dict[str, Any]:
    """Return ``index_ms`` and for each query what ``search`` finds, with ``codes`` in its order and ``ms``."""
    with tempfile.TemporaryDirectory() as name:
        location = Path(name) / "data.json"
        location.write_text(json.dumps({**data, "queries": queries}), encoding="utf-8")
        sources = [str(_FOLDER / name) for name in ("codes.js", "search.js")]
        done = subprocess.run(
            [str(_node()), "-e", _SCRIPT, "--", *sources, str(location)], capture_output=True, text=True, check=True
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _node() -> Path:
    """Return the Node that comes with Playwright, so that no other is needed."""
    import playwright

    return Path(playwright.__file__).parent / "driver" / "node"
