"""Requests to the store that a build of 40 million abstracts and 2.65 million notes makes, counted by a counting store.

The passes of a real build run in this process, one after another, on as many units, pieces, partitions and shards as that build
has; a piece holds one note, because requests do not depend on its size. What each worker process reads once (drops of earlier
passes, the tokenizer, the lexicon) is counted for ``WORKERS`` of them. A download, an upload, a listing of up to 1,000 objects
and a deletion of up to 1,000 are one request each. Raw files are local here. What they cost in S3 is counted by reading one
object of their average size: ``raw``, with the ``.md5`` file of each and the listings of the driver.
"""

import math
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from clinical_modernbert.artifacts import make_plan
from clinical_modernbert.artifacts.store import ObjectInfo
from clinical_modernbert.corpus import build
from clinical_modernbert.recipe import CorpusRecipe, build_recipe
from clinical_modernbert.recipe.sources import PubMedSource
from clinical_modernbert.sources import list_units, read_unit

from benchmarks.harness import write_result

PIECES = 1383
"""1,334 files of 30,000 abstracts, 13 pieces of discharge summaries and 36 of radiology reports."""
RAW_BYTES = 47_000_000_000
DOCUMENTS = 42_650_000
WORKERS = 100
_WORDS = 110  # so that a shard of 1,024 tokens has about the share of pieces that one of 67 million has
_PAGE = 1000
_KEPT = ("drops/", "tokenizer/", "lexicon.txt")
TARGET = "total < 60,000"


class CountingStore:
    """Objects in memory; every request is counted under the stage that runs."""

    def __init__(self) -> None:
        self.uri = "file:///counting"
        self.stage = "driver"
        self.requests: Counter[str] = Counter()
        self._objects: dict[str, bytes] = {}

    def _count(self, key: str, number: int = 1) -> None:
        name = key.partition("work/corpus/")[2].partition("/")[2]
        each = WORKERS if self.stage in _PARALLEL and name.startswith(_KEPT) else 1
        self.requests[self.stage] += number * each

    def read_bytes(self, key: str) -> bytes:
        self._count(key)
        return self._objects[key]

    def info(self, key: str) -> ObjectInfo:
        self._count(key)
        return ObjectInfo(key, len(self._objects[key]), "1")

    def read_range(self, key: str, first: int, size_bytes: int, *, version: str) -> bytes:
        self._count(key)
        return self._objects[key][first : first + size_bytes]

    def write_bytes(self, key: str, data: bytes) -> None:
        self.requests[self.stage] += 1
        self._objects[key] = data

    def put_file(self, local_path: Path, key: str) -> None:
        self.write_bytes(key, local_path.read_bytes())

    def get_file(self, key: str, local_path: Path) -> Path:
        self._count(key)
        local_path.parent.mkdir(parents=True, exist_ok=True)
        local_path.write_bytes(self._objects[key])
        return local_path

    def check_writable(self, key: str) -> None:
        self.requests[self.stage] += 2

    def walk(self, prefix: str) -> Iterator[ObjectInfo]:
        found = sorted(key for key in self._objects if key.startswith(f"{prefix}/"))
        self.requests[self.stage] += max(1, math.ceil(len(found) / _PAGE))
        return iter([ObjectInfo(key, len(self._objects[key])) for key in found])

    def names(self, prefix: str) -> list[str]:
        return sorted({item.key.removeprefix(f"{prefix}/").partition("/")[0] for item in self.walk(prefix)})

    def delete(self, key: str) -> None:
        self.requests[self.stage] += 1
        self._objects.pop(key, None)

    def clear(self, prefix: str) -> None:
        keys = [item.key for item in self.walk(prefix)]
        self.requests[self.stage] += math.ceil(len(keys) / _PAGE)
        for key in keys:
            del self._objects[key]


_PARALLEL = ("duplicates", "near", "draw", "tokenise", "pack")


def score() -> str:
    """Return the closing line; the requests of each stage are printed before and written below ``build/bench``."""
    found = count_requests(PIECES)
    total = found.total()
    for stage, number in found.most_common():
        sys.stdout.write(f"{stage}: {number:,}\n")
    facts = {"pieces": PIECES, "workers": WORKERS, "target": TARGET, "stages": dict(found)}
    write_result({"row": "corpus-requests", **facts}, Path("build/bench"))
    return f"corpus-requests requests={total} pieces={PIECES} workers={WORKERS}"


def count_requests(pieces: int) -> Counter[str]:
    """Return the requests of each stage of a build with so many pieces, one a unit."""
    store = CountingStore()

    def each_call(name: str, calls: Sequence[Callable[[], Any]], *_: Any, **__: Any) -> list[Any]:
        store.stage = name
        results = [call() for call in calls]
        store.stage = "driver"
        return results

    share = pieces / PIECES
    patches: dict[str, Any] = {
        "each_call": each_call,
        "ray": _InProcess(store),
        "result_of": lambda result: result,
        "start_ray": lambda **_: None,
        "_raw_bytes": lambda _: int(RAW_BYTES * share / pieces),
        "_INPUT_A_BANDS_PARTITION": build._INPUT_A_BANDS_PARTITION,
        "_RECORDS_A_PARTITION": int(build._RECORDS_A_PARTITION * PIECES / DOCUMENTS),
    }
    opened = mock.patch("clinical_modernbert.artifacts.work_area.open_store", lambda _: store)
    with tempfile.TemporaryDirectory() as folder, mock.patch.multiple(build, **patches), opened:
        recipe = _recipe(Path(folder), pieces)
        build.build_corpus(make_plan(recipe, store))
    return store.requests + Counter(raw=raw_requests(pieces))


def raw_requests(files: int) -> int:
    """Return the requests for so many raw files of PubMed's size: their listings, and what the task of each reads."""
    store = CountingStore()
    store.write_bytes("raw/file.xml.gz", b"<PubmedArticleSet>" + b" " * (RAW_BYTES // PIECES) + b"</PubmedArticleSet>")
    store.requests.clear()
    source = PubMedSource(type="pubmed", name="pubmed", path="s3://bucket/raw")
    with mock.patch("clinical_modernbert.artifacts.remote_files.open_store", lambda _: store):
        units = list_units(source)
        listings = store.requests.total() * math.ceil(files / _PAGE)
        store.requests.clear()
        for _ in read_unit(source, units[0]):
            pass
    # A fingerprint lists the files, and so does the build.
    return 2 * listings + files * store.requests.total()


class _InProcess:
    """Stands for Ray: the tokenizer's task runs at once."""

    def __init__(self, store: CountingStore) -> None:
        self._store = store

    def remote(self, **_: Any) -> Callable[[Callable[..., Any]], Any]:
        def task(function: Callable[..., Any]) -> Any:
            def run(*arguments: Any) -> Any:
                self._store.stage = "tools"
                result = function(*arguments)
                self._store.stage = "driver"
                return result

            return mock.Mock(remote=run)

        return task

    def wait(self, _: Any) -> None:
        """Nothing waits: the task is done."""


def _recipe(folder: Path, pieces: int) -> CorpusRecipe:
    for number in range(pieces):
        numbers = (number * 7919 * (n + 1) % 10_007 for n in range(_WORDS))
        words = " ".join(
            f"word{'abcdefghij'[n % 10]}{'klmnopqrst'[n // 10 % 10]}{'uvwxyzabcd'[n // 100 % 10]}" for n in numbers
        )
        (folder / f"discharge{number:05d}.csv").write_text(
            f"note_id,subject_id,text\n{number},{number},The note {number}: {words}.\n"
        )
    values = {
        "kind": "corpus",
        "name": "requests",
        "sources": [{"type": "mimic_note", "name": "notes", "path": str(folder)}],
        "tokenizer": {"base": "train", "vocabulary_size": 2048, "training_megabytes": 1},
        "lexicon": {"code_tables": False, "drug_names": False},
        "packing": {"sequence_lengths": [128, 1024, 8192], "shard_tokens": 1024},
    }
    return build_recipe(CorpusRecipe, values, origin="bench")
