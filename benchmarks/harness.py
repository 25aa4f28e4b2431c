"""Side-by-side measurement: interleaved rounds of ours, the peer and the machine's limit, after a check of equality.

A row is a module of ``benchmarks/rows`` with ``build(scratch) -> Row``. The check runs before any timing: a row whose outputs
differ prints no ratio. Every round runs each side once, in an order that rotates. The ratio of a round is our rate over the
peer's (above 1: ours is faster). The row reports the median of the rounds' ratios with its quartiles, against the fastest peer if
there are several. CPU seconds, with those of child processes, are reported next to wall time, because machines are shared.
"""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One measurement. Each side does the whole of its work once and returns how many useful units that was."""

    name: str
    unit: str
    """What is counted: ``tokens``, ``articles``; only useful ones."""
    peer: str
    """Name and version of the peer."""
    check: Callable[[], dict[str, Any]]
    """Prove the outputs equal, or raise; the returned facts are kept in the result."""
    ours: Callable[[], int]
    other: Callable[[], int]
    bound: Callable[[], int] | None = None
    """The machine's own limit for the same work."""
    target: str = ""
    """What the row is meant to reach, in words."""
    other_peers: dict[str, Callable[[], int]] = field(default_factory=dict)
    """Further peers by name and version."""
    variants: dict[str, Callable[[], int]] = field(default_factory=dict)
    """Stages between the peer and us, or ours in another setting: in the result, never in the closing line."""
    figure: str = ""
    """A figure of the check that the closing line shows too."""
    also: "Row | None" = None
    """The same measurement at another size, measured before this one and kept in its result."""


@dataclass(frozen=True, slots=True)
class Timing:
    """One side of one round."""

    units: int
    wall_s: float
    cpu_s: float


def measure(row: Row, *, rounds: int = ROUNDS) -> dict[str, Any]:
    """Check, warm up, run the rounds and return the result."""
    also = measure(row.also, rounds=rounds) if row.also else None
    facts = row.check()
    peers = {row.peer: row.other, **row.other_peers}
    sides = {"ours": row.ours, **peers, **row.variants}
    if row.bound:
        sides["bound"] = row.bound
    for run in sides.values():
        run()
    names = list(sides)
    history: list[dict[str, Timing]] = []
    for number in range(rounds):
        order = names[number % len(names) :] + names[: number % len(names)]
        history.append({name: _time(sides[name]) for name in order})
    ratios = {name: _quartiles([_rate(r["ours"]) / _rate(r[name]) for r in history]) for name in names[1:]}
    best = min(peers, key=lambda name: ratios[name]["median"])
    return {
        "row": row.name,
        "unit": row.unit,
        "peer": best,
        "target": row.target,
        "ratio": ratios[best],
        "figure": {row.figure: facts[row.figure]} if row.figure else {},
        "cpu_ratio": _quartiles([_cpu_rate(r["ours"]) / _cpu_rate(r[best]) for r in history]),
        "bound": ratios.get("bound"),
        "ratios": ratios,
        "check": facts,
        "rounds": [{name: asdict(timing) for name, timing in r.items()} for r in history],
        "machine": {"cpus": os.cpu_count(), **cpu_facts(), "python": platform.python_version()},
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "command": " ".join(sys.argv),
        "also": also,
    }


def closing_line(result: dict[str, Any]) -> str:
    """Return the line that a row prints last."""
    ratio, bound = result["ratio"], result["bound"]
    limit = f"{bound['median']:.3f}" if bound else "none"
    figure = "".join(f" {name}={value:.3f}" for name, value in result["figure"].items())
    return (
        f"{result['row']} ratio={ratio['median']:.3f}{figure} q1={ratio['q1']:.3f} bound={limit} peer={result['peer']}"
    )


def write_result(result: dict[str, Any], folder: Path) -> Path:
    """Write ``<row>.json`` below ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{result['row']}.json"
    path.write_text(json.dumps(result, indent=1), encoding="utf-8")
    return path


def _time(run: Callable[[], int]) -> Timing:
    wall, cpu = time.perf_counter(), _cpu_seconds()
    units = run()
    return Timing(units=units, wall_s=time.perf_counter() - wall, cpu_s=_cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    """Return what this process and every descendant used so far, those that ended included."""
    total = 0.0
    for process in (own := psutil.Process(), *own.children(recursive=True)):
        with suppress(psutil.NoSuchProcess):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


def _rate(timing: Timing) -> float:
    return timing.units / timing.wall_s


def _cpu_rate(timing: Timing) -> float:
    return timing.units / max(timing.cpu_s, 1e-9)


def _quartiles(values: list[float]) -> dict[str, float]:
    q1, median, q3 = statistics.quantiles(values, n=4, method="inclusive")
    return {"q1": q1, "median": median, "q3": q3}


def cpu_facts() -> dict[str, Any]:
    """Return the processor's vendor, family and model, and its instruction sets that matter here: speeds are of one processor."""
    wanted = {"avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16"}
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    first = (
        dict(line.replace("\t", "").split(":", 1) for line in lines[: lines.index("")] if ":" in line) if lines else {}
    )
    names = {"vendor_id": "vendor", "cpu family": "family", "model": "model", "model name": "name"}
    return {
        **{ours: first.get(theirs, "").strip() for theirs, ours in names.items()},
        "features": sorted(wanted & set(first.get("flags", "").split())),
    }
