"""Ask an S3 service whether it holds the keys of this process to a role: what must be allowed is, what must be refused is.

It tries each right in each folder with small objects of random names, and leaves behind only what the role may not delete: an
empty object of a few bytes under ``<kind>/access-check-*``. A service that allows too much is a failure like one that refuses.
"""

import uuid
from collections.abc import Callable
from dataclasses import dataclass

from clinical_modernbert.artifacts.layout import KINDS
from clinical_modernbert.artifacts.store import Store, join_key
from clinical_modernbert.cluster.access import CHECKPOINT, HUB, WORK, Role, rights
from clinical_modernbert.errors import StoreError

FOLDERS = (*KINDS, CHECKPOINT, WORK, HUB)
_CONTENT = b"access check\n"


@dataclass(frozen=True, slots=True)
class Finding:
    """One right in one folder: what the role wants, and what the store did."""

    folder: str
    right: str
    wanted: bool
    allowed: bool

    @property
    def ok(self) -> bool:
        return self.wanted == self.allowed

    def __str__(self) -> str:
        words = {True: "allowed", False: "refused"}
        verdict = "ok" if self.ok else f"WRONG, should be {words[self.wanted]}"
        return f"{self.folder:<11} {self.right:<7} {words[self.allowed]:<8} {verdict}"


def check_access(store: Store, role: Role) -> list[Finding]:
    """Return what ``role`` may do in each folder of ``store``, by trying it with the keys of the environment."""
    allowed = rights(role)
    found = []
    for folder in FOLDERS:
        key = join_key(folder, f"access-check-{uuid.uuid4().hex}")
        # In this order: what was written is what is read and deleted.
        tries = {
            "write": lambda key=key: store.write_bytes(key, _CONTENT),
            "read": lambda key=key: _read(store, key),
            "delete": lambda key=key: store.delete(key),
        }
        may = allowed.get(folder, frozenset())
        found += [Finding(folder, right, right in may, _allowed(attempt)) for right, attempt in tries.items()]
    return found


def _read(store: Store, key: str) -> None:
    """A key that may be read but is not there is allowed: an S3 service answers "absent" only to who may read."""
    try:
        store.read_bytes(key)
    except KeyError:
        return


def _allowed(attempt: Callable[[], None]) -> bool:
    try:
        attempt()
    except StoreError as error:
        if "AccessDenied" not in str(error):
            raise
        return False
    return True
