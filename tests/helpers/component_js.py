"""Runs modules of the map in Node, the one that comes with Playwright: those that need no DOM."""

import json
import subprocess
from pathlib import Path
from typing import Any

import playwright

_FOLDER = Path(__file__).resolve().parents[2] / "dashboards" / "component"


def run_js(modules: str, body: str, data: object) -> Any:
    """Return as JSON what ``body``, a function's body with ``data``, returns; ``modules`` are names with blanks between."""
    source = "\n".join((_FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in modules.split())
    script = f"{source}\nconst run = (data) => {{ {body} }};\n" + (
        'process.stdout.write(JSON.stringify(run(JSON.parse(require("fs").readFileSync(0, "utf8")))));'
    )
    node = Path(playwright.__file__).parent / "driver" / "node"
    done = subprocess.run(
        [str(node), "-e", script], input=json.dumps(data), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)
