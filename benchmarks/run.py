"""Run one row: ``make bench ROW=<name>``; without a name, list the rows."""

import argparse
import importlib
import pkgutil
import sys
import tempfile
from pathlib import Path

from benchmarks import rows
from benchmarks.harness import ROUNDS, closing_line, measure, write_result


def main() -> None:
    """Measure the row named on the command line and print its closing line last."""
    parser = argparse.ArgumentParser(description="Measure one row against its peer.")
    known = {module.name.replace("_", "-"): module.name for module in pkgutil.iter_modules(rows.__path__)}
    parser.add_argument("row", choices=sorted(known))
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    options = parser.parse_args()
    module = importlib.import_module(f"benchmarks.rows.{known[options.row]}")
    if hasattr(module, "score"):  # a row of answers and not of speed
        sys.stdout.write(module.score() + "\n")
        return
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(module.build(Path(scratch)), rounds=options.rounds)
    write_result(result, Path("build/bench"))
    machine = result["machine"]
    sys.stdout.write(
        f"CPU {machine['vendor']} family {machine['family']} model {machine['model']}: {machine['features']}\n"
    )
    if result["also"]:
        sys.stdout.write(closing_line(result["also"]) + "\n")
    sys.stdout.write(closing_line(result) + "\n")


if __name__ == "__main__":
    main()
