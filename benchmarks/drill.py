"""Inject one kind of fault and count the outcomes: ``make drill ROW=<name>``.

A drill is a module of ``benchmarks/drills`` with ``run(scratch, seed) -> Outcome``. Every choice of a drill (the time and the
target of a kill) follows from the seed, which is written to ``build/drill/<name>.json``. The exit status is 1 when the drill
fails.
"""

import argparse
import importlib
import json
import pkgutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import drills


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the faults of one drill."""

    injected: int
    recovered: int
    lost: int
    """Units of work (steps, requests, documents) that were accepted and never finished."""
    wrong: int
    """Units that finished with another result than without the fault."""
    facts: dict[str, Any] = field(default_factory=dict)
    """What else a reader needs: intervals, attempts, versions."""

    @classmethod
    def of_ends(cls, problems: Mapping[str, Sequence[str]], **facts: Any) -> "Outcome":
        """Count faults by name, each with what was wrong with its end; a fault without a problem was recovered from."""
        wrong = [problem for found in problems.values() for problem in found]
        return cls(
            injected=len(problems),
            recovered=sum(not found for found in problems.values()),
            lost=0,
            wrong=len(wrong),
            facts={"problems": wrong, "faults": sorted(problems), **facts},
        )

    @property
    def passed(self) -> bool:
        """Every fault was injected and recovered from, nothing lost, nothing wrong."""
        return self.injected > 0 and self.recovered == self.injected and not self.lost and not self.wrong


def closing_line(name: str, outcome: Outcome) -> str:
    """The line a drill prints last."""
    verdict = "pass" if outcome.passed else "fail"
    counts = f"injected={outcome.injected} recovered={outcome.recovered} lost={outcome.lost} wrong={outcome.wrong}"
    return f"{name} {counts} {verdict}"


def main() -> None:
    """Run the drill named on the command line and print its closing line last."""
    parser = argparse.ArgumentParser(description="Inject one kind of fault and count what became of it.")
    known = {module.name.replace("_", "-"): module.name for module in pkgutil.iter_modules(drills.__path__)}
    parser.add_argument("row", choices=sorted(known))
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    module = importlib.import_module(f"benchmarks.drills.{known[options.row]}")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        outcome: Outcome = module.run(Path(scratch), options.seed)
    folder = Path("build/drill")
    folder.mkdir(parents=True, exist_ok=True)
    result = {
        "row": options.row,
        "seed": options.seed,
        "wall_s": round(time.monotonic() - started, 1),
        **asdict(outcome),
    }
    (folder / f"{options.row}.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(closing_line(options.row, outcome) + "\n")
    sys.exit(not outcome.passed)


if __name__ == "__main__":
    main()
