"""The finished artifacts of a store, shared by all viewers.

A manifest is written once, so it is read once and kept without end. Reads run side by side, because a distant store takes 100 ms
or more for each. What may still change is read again: the names of a kind and what is unfinished or damaged after ``RELOAD_S``,
the manifest of an artifact that a page opens (``find``) after ``CHECK_S``. An artifact that was rebuilt under the same id keeps
its old figures in lists until a page opens it.
"""

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from clinical_modernbert.artifacts import Artifact, Store, find_artifact
from clinical_modernbert.errors import ArtifactError

READERS = 128
RELOAD_S = 10.0
CHECK_S = 120.0
_TELL_S = 0.25

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Listing:
    """The finished artifacts of one kind, newest first, and the problems of those that cannot be read."""

    artifacts: tuple[Artifact, ...]
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Progress:
    """How many manifests of a listing are read; ``total`` is None until the store has named its artifacts."""

    done: int
    total: int | None


@dataclass(frozen=True, slots=True)
class _Read:
    future: Future[Any]
    started: float

    @property
    def state(self) -> Literal["running", "found", "absent", "failed"]:
        """``absent`` is unfinished or damaged; ``failed`` is the store's failure."""
        if not self.future.done():
            return "running"
        error = self.future.exception()
        if error is None:
            return "absent" if self.future.result() is None else "found"
        return "absent" if isinstance(error, ArtifactError) else "failed"

    def is_due(self, after_s: float) -> bool:
        return self.state == "failed" or (self.state != "running" and time.monotonic() - self.started > after_s)


class Manifests:
    """The manifests of one store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="manifests")
        self._lock = threading.Lock()
        self._names: dict[str, _Read] = {}
        self._reads: dict[tuple[str, str], _Read] = {}
        """By kind and id."""

    def list_kinds(self, kinds: Sequence[str], *, tell: Callable[[Progress], None]) -> list[Listing]:
        """Return a listing of each kind. ``tell`` is called a few times a second while the store is read.

        A damaged artifact is a problem of its listing and hides none of the others.
        """
        named = [self._named(kind) for kind in kinds]
        _follow([read.future for read in named], lambda _: tell(Progress(0, None)))
        listed = [self._listed(kind, read.future.result()) for kind, read in zip(kinds, named, strict=True)]
        futures = [future for one in listed for future in one]
        _follow(futures, lambda done: tell(Progress(done, len(futures))))
        return [_listing(one) for one in listed]

    def find(self, kind: str, artifact_id: str) -> Artifact | None:
        """Return an artifact as the store had it at most ``CHECK_S`` ago; None where it is not finished."""
        with self._lock:
            read = self._reads.get((kind, artifact_id))
            if read is None or read.is_due(CHECK_S):
                read = self._start(kind, artifact_id)
        found: Artifact | None = read.future.result()
        return found

    def each(self, read: Callable[[str], T], names: Sequence[str]) -> list[T]:
        """Return what ``read`` returns for each name; the reads run side by side."""
        return list(self._pool.map(read, names))

    def _named(self, kind: str) -> _Read:
        with self._lock:
            read = self._names.get(kind)
            if read is None or read.is_due(RELOAD_S):
                self._forget(kind, lambda _, old: old.state == "absent")
                read = self._names[kind] = _Read(self._pool.submit(self._store.names, kind), time.monotonic())
            return read

    def _listed(self, kind: str, names: Sequence[str]) -> list[Future[Any]]:
        wanted = set(names)
        with self._lock:
            self._forget(kind, lambda name, old: name not in wanted or old.state == "failed")
            return [(self._reads.get((kind, name)) or self._start(kind, name)).future for name in names]

    def _forget(self, kind: str, test: Callable[[str, _Read], bool]) -> None:
        self._reads = {key: old for key, old in self._reads.items() if key[0] != kind or not test(key[1], old)}

    def _start(self, kind: str, artifact_id: str) -> _Read:
        future = self._pool.submit(find_artifact, self._store, kind, artifact_id)
        read = self._reads[kind, artifact_id] = _Read(future, time.monotonic())
        return read


def _follow(futures: Sequence[Future[Any]], tell: Callable[[int], None]) -> None:
    """Wait for the futures; tell how many are done, but nothing where that takes no time."""
    waiting = set(futures)
    while waiting:
        waiting = wait(waiting, timeout=_TELL_S).not_done
        if waiting:
            tell(len(futures) - len(waiting))


def _listing(reads: Sequence[Future[Any]]) -> Listing:
    artifacts, problems = [], []
    for read in reads:
        try:
            artifact: Artifact | None = read.result()
        except ArtifactError as error:
            problems.append(str(error))
        else:
            artifacts += [artifact] if artifact else []
    artifacts.sort(key=lambda artifact: artifact.manifest.created_at, reverse=True)
    return Listing(tuple(artifacts), tuple(problems))
