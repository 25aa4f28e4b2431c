"""Which documents of a source become pairs: those with the smallest hashes, of each record the newest version that stays.

As in a corpus, a version without a usable text replaces the earlier ones, a deletion removes what its file and those before it
brought, and either may be read before the version that it concerns. Memory is bounded by the number of pairs, and by
``MOST_ENDED``: what is known of the records beyond it is forgotten, and these are not drawn.
"""

import heapq
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field

from clinical_modernbert.sources.document import Deleted, Document, Dropped
from clinical_modernbert.sources.terms.term import TermPair, TermRecord

MOST_ENDED = 1 << 20
_Version = tuple[int, int]
"""(version, order of its file)."""


@dataclass(slots=True)
class Draw:
    """The records with the smallest hashes, so that memory does not grow with the source; of each the newest version."""

    size: int
    _kept: dict[int, tuple[_Version, list[TermPair]]] = field(default_factory=dict)
    """Hash of a record -> its version and pairs."""
    _largest: list[int] = field(default_factory=list)
    """Heap of the hashes, negative; one that is no longer kept is passed over."""
    _left_out: dict[int, _Version] = field(default_factory=dict)
    """Hash of a record -> its newest version without pairs."""
    _deleted: dict[int, dict[int, int]] = field(default_factory=dict)
    """Hash of a record -> order of the last notice that deletes a version of it; 0 for all versions."""
    _limit: int = 1 << 64
    """Above all hashes that may be drawn."""
    _dropped: Counter[str] = field(default_factory=Counter)

    def takes(self, key: int) -> bool:
        """Return whether a record with this hash can be among the drawn ones."""
        return key < self._limit and (len(self._kept) < self.size or key in self._kept or key < -self._largest[0])

    def add(self, key: int, document: Document, pairs: list[TermPair]) -> None:
        """Keep a document's pairs; a later version takes the place of an earlier one, other texts of one version join it."""
        version = (document.version, document.order)
        held = self._kept.get(key)
        if self._is_deleted(key, version):
            self._dropped["deleted"] += len(pairs)
        elif max(held[0] if held else version, self._left_out.get(key, version)) > version:
            self._dropped["superseded"] += len(pairs)
        elif not pairs:
            if held and held[0] < version:
                self._drop(key, "superseded")
            self._end(key, version)
        elif held and held[0] == version:
            held[1].extend(pairs)
        else:
            if held:
                self._dropped["superseded"] += len(held[1])
            else:
                heapq.heappush(self._largest, -key)
            self._kept[key] = (version, pairs)
            while len(self._kept) > self.size:
                self._drop(-heapq.heappop(self._largest), "not_drawn")

    def leave_out(self, key: int, dropped: Dropped) -> None:
        """Note a version that a rule drops: it replaces the earlier ones, and of equal ones those that were read before it."""
        version = (dropped.version, dropped.order)
        if not self.takes(key):
            return
        if key in self._kept and self._kept[key][0] <= version:
            self._drop(key, "superseded")
        self._end(key, version)

    def delete(self, key: int, notice: Deleted) -> None:
        """Note that the source deletes a record."""
        if not self.takes(key):
            return
        orders = self._deleted.setdefault(key, {})
        orders[notice.version] = max(notice.order, orders.get(notice.version, notice.order))
        if key in self._kept and self._is_deleted(key, self._kept[key][0]):
            self._drop(key, "deleted")
        self._forget()

    def records(self) -> Iterator[TermRecord]:
        """Yield the drawn pairs in the order of the hashes, up to their largest number, and what was dropped."""
        number = 0
        for key in sorted(self._kept):
            for pair in self._kept[key][1]:
                number += 1
                yield pair if number <= self.size else Dropped("not_drawn")
        for reason, count in self._dropped.items():
            yield from [Dropped(reason)] * count

    def _is_deleted(self, key: int, version: _Version) -> bool:
        orders = self._deleted.get(key, {})
        return max(orders.get(version[0], -1), orders.get(0, -1)) >= version[1]

    def _end(self, key: int, version: _Version) -> None:
        self._left_out[key] = max(version, self._left_out.get(key, version))
        self._forget()

    def _drop(self, key: int, reason: str) -> None:
        if key in self._kept:
            self._dropped[reason] += len(self._kept.pop(key)[1])

    def _forget(self) -> None:
        if len(self._left_out) + len(self._deleted) <= MOST_ENDED:
            return
        known = sorted({*self._left_out, *self._deleted})
        self._limit = min(self._limit, known[len(known) // 2])
        self._left_out = {key: version for key, version in self._left_out.items() if self.takes(key)}
        self._deleted = {key: orders for key, orders in self._deleted.items() if self.takes(key)}
        for key in [key for key in self._kept if key >= self._limit]:
            self._drop(key, "not_drawn")
