"""Lists of codes as values: what is on a list, what is excluded from it, how two lists differ, and a saved list in the store.

A saved list is a file under the hash of its content, with a name, its author as the login names them, the date, and the map on
which it was made. It is never changed: saving a changed list makes another file. The platform team deletes lists, as it deletes
artifacts.
"""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime

from clinical_modernbert.artifacts import Store, join_key
from clinical_modernbert.artifacts.layout import lists_prefix
from clinical_modernbert.errors import ArtifactError, UserError
from pydantic import TypeAdapter, ValidationError

_LONGEST_NAME = 80
_ID_LENGTH = 12


@dataclass(frozen=True, slots=True)
class CodeList:
    """Codes in the order in which they came, and which of them are excluded."""

    codes: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()

    @property
    def included(self) -> tuple[str, ...]:
        """The codes that are not excluded."""
        return tuple(code for code in self.codes if code not in self.excluded)

    def include(self, codes: Iterable[str]) -> "CodeList":
        """Return the list with ``codes`` at its end. An excluded code stays excluded, unless it is the only one that is added."""
        added = list(codes)
        excluded = self.excluded - set(added) if len(added) == 1 else self.excluded
        return CodeList(tuple(dict.fromkeys([*self.codes, *added])), excluded)

    def exclude(self, codes: Iterable[str]) -> "CodeList":
        """Return the list with ``codes`` excluded: they stay on it as excluded, also if their category is added later."""
        out = list(codes)
        return CodeList(tuple(dict.fromkeys([*self.codes, *out])), self.excluded | set(out))

    def remove(self, codes: Iterable[str]) -> "CodeList":
        """Return the list without ``codes``."""
        gone = set(codes)
        return CodeList(tuple(code for code in self.codes if code not in gone), self.excluded - gone)


@dataclass(frozen=True, slots=True)
class SavedList:
    """A list as the store keeps it."""

    name: str
    table: str
    """The code table: ``icd9cm`` or ``icd10cm``."""
    codes: tuple[str, ...]
    excluded: tuple[str, ...]
    author: str
    saved_at: str
    """In UTC, as ISO 8601."""
    provenance: tuple[str, ...]

    @property
    def content(self) -> CodeList:
        """Its codes."""
        return CodeList(self.codes, frozenset(self.excluded))

    @property
    def lines(self) -> list[str]:
        """What a file says about its origin."""
        return [f"{self.name!r}, saved {self.saved_at[:16]} UTC by {self.author}", *self.provenance]


_SAVED: TypeAdapter[SavedList] = TypeAdapter(SavedList)


def make_saved(listed: CodeList, *, name: str, table: str, author: str, provenance: Iterable[str]) -> SavedList:
    """Return the list as it is saved now; raises ``UserError`` for a name that cannot be one."""
    name = " ".join(name.split())
    if not name or len(name) > _LONGEST_NAME or not name.isprintable():
        raise UserError(f"name: {len(name)} characters; 1 to {_LONGEST_NAME} printable ones are needed")
    now = datetime.now(UTC).isoformat(timespec="seconds").removesuffix("+00:00")
    excluded = tuple(sorted(listed.excluded))
    return SavedList(name, table, listed.codes, excluded, author, now, tuple(provenance))


def save_list(store: Store, saved: SavedList) -> str:
    """Write a list and return its id."""
    text = json.dumps(asdict(saved), indent=1)
    list_id = hashlib.sha256(text.encode()).hexdigest()[:_ID_LENGTH]
    store.write_bytes(_key(saved.table, list_id), text.encode())
    return list_id


def read_list(store: Store, table: str, list_id: str) -> SavedList:
    """Return a saved list; raises ``KeyError`` where there is none, and ``ArtifactError`` for a file that is not one."""
    key = _key(table, list_id)
    content = store.read_bytes(key)
    if hashlib.sha256(content).hexdigest()[:_ID_LENGTH] != list_id:
        raise ArtifactError(f"{store.uri}/{key} was changed after it was saved: its content is not that of its name")
    try:
        return _SAVED.validate_json(content)
    except ValidationError as error:
        (first, *_) = error.errors()
        place = ".".join(map(str, first["loc"])) or "the file"
        raise ArtifactError(f"{store.uri}/{key} is not a saved list: {place}: {first['msg']}") from None


def list_ids(store: Store, table: str) -> list[str]:
    """Return the ids of the lists of a code table."""
    return [name.removesuffix(".json") for name in store.names(lists_prefix(table)) if name.endswith(".json")]


def compared(first: CodeList, second: CodeList) -> dict[str, list[str]]:
    """Return the included codes that both lists have, and those that one of them has."""
    ours, theirs = set(first.included), set(second.included)
    return {
        "both": sorted(ours & theirs),
        "first": sorted(ours - theirs),
        "second": sorted(theirs - ours),
    }


def _key(table: str, list_id: str) -> str:
    return join_key(lists_prefix(table), f"{list_id}.json")
