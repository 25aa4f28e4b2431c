"""A build of 16 times the input against one of 4 times: the time a citation, and the memory of the driver and of its workers.

The ratio is of citations a second: 1 if time is linear, above 1 if start-up costs still matter. The bound is the build
of the single input, which is almost only start-up. Memory is the largest resident set of the driver, and of any Ray worker, seen
while each build of the check ran; workers share only paths and counts with the driver. The last build reads one file.
"""

import os
import threading
from importlib.metadata import version
from itertools import count
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Row
from benchmarks.kits.real_texts import varied_citations, write_citations
from benchmarks.rows.corpus import run_build, write_inputs

_TIMES = (1, 4, 16)
_CITATIONS_A_FILE = 2000
_MEGABYTE = 1 << 20


def build(scratch: Path) -> Row:
    """Write 16 files to ``scratch`` and return the row; ``SourceError`` where real data is missing."""
    write_inputs(scratch, num_files=max(_TIMES), citations_a_file=_CITATIONS_A_FILE)
    files = sorted((scratch / "raw").iterdir())
    for times in _TIMES:
        (scratch / f"raw{times}").mkdir()
        for file in files[:times]:
            (scratch / f"raw{times}" / file.name).hardlink_to(file)
    (scratch / "raw_one_file").mkdir()
    citations = varied_citations(max(_TIMES) * _CITATIONS_A_FILE)
    write_citations(scratch / "raw_one_file" / "pubmed26n0001.xml.gz", citations)
    runs = count()

    def side(times: int, *, raw: str = "") -> int:
        run_build(scratch, name=f"scaling{next(runs)}", raw=raw or f"raw{times}")
        return times * _CITATIONS_A_FILE

    def check() -> dict[str, Any]:
        side(1)  # starts Ray and its workers
        memory = {f"memory_mb_at_{times}": _memory_while(lambda t=times: side(t)) for times in _TIMES}
        one_file = _memory_while(lambda: side(max(_TIMES), raw="raw_one_file"))
        return {**memory, f"memory_mb_at_{max(_TIMES)}_in_one_file": one_file}

    return Row(
        name="corpus-scaling", unit="citations", peer=f"itself at 4 times the input, ray {version('ray')}", check=check,
        ours=lambda: side(16), other=lambda: side(4), bound=lambda: side(1),
        target="time linear within 10 %, memory of driver and workers flat",
    )  # fmt: skip


def _memory_while(run: Any) -> dict[str, int]:
    """Return the largest resident sets, in MB, of this process and of any Ray worker while ``run`` ran."""
    driver = psutil.Process(os.getpid())
    largest = {"driver": 0, "worker": 0}
    done = threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            largest["driver"] = max(largest["driver"], driver.memory_info().rss // _MEGABYTE)
            for process in driver.children(recursive=True):
                try:
                    if process.name().startswith("ray::"):
                        largest["worker"] = max(largest["worker"], process.memory_info().rss // _MEGABYTE)
                except psutil.NoSuchProcess:
                    continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        run()
    finally:
        done.set()
        watcher.join()
    return largest
