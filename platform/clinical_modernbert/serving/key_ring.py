"""The keys as they are now, and how much of its rate each has left.

A file of keys is read again after it changed, so that a key is revoked without a restart. A file that became wrong changes
nothing: the keys of its last good content stay, and the log says which line is wrong.
"""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from clinical_modernbert.errors import RecipeError
from clinical_modernbert.serving.keys import FILE_VARIABLE, Key, keys_from_environment

_LOOK_EVERY_S = 5.0
_Version = tuple[int, int, int]
_logger = logging.getLogger(__name__)


class KeyRing:
    """Keys, read again from the file at ``path`` at most every five seconds."""

    def __init__(
        self, keys: tuple[Key, ...] = (), *, path: Path | None = None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._keys, self._path, self._clock = keys, path, clock
        self._seen, self._looked = _version(path), clock()
        self._refused = self._seen
        self._levels: dict[tuple[str, str], _Level] = {}

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ, *, required: bool) -> "KeyRing":
        """Return the ring of the environment's keys; raises ``RecipeError``."""
        path = environment.get(FILE_VARIABLE)
        ring = cls(
            path=Path(path) if path else None
        )  # looks at the file before it is read: a change in between is seen
        ring._keys = keys_from_environment(environment, required=required)
        return ring

    def accepted(self) -> tuple[Key, ...]:
        """Return the keys that are accepted now."""
        now = self._clock()
        if self._path is not None and now - self._looked >= _LOOK_EVERY_S:
            self._looked = now
            seen = _version(self._path)
            if seen != self._seen:
                self._read_again(self._path, seen)
        return self._keys

    def _read_again(self, path: Path, seen: _Version | None) -> None:
        try:
            self._keys, self._seen = keys_from_environment({FILE_VARIABLE: str(path)}, required=True), seen
            _logger.warning("%s changed: %d keys are accepted", path, len(self._keys))
        except RecipeError as error:
            # It is read again each time: the same file may be readable later. The log says it once.
            if seen != self._refused:
                _logger.error("%s changed and is wrong, so its last keys stay: %s", path, error)
            self._refused = seen

    def seconds_until(self, key: Key) -> int:
        """Return 0 and count a request of the key, or the seconds until its rate allows the next one."""
        levels = [self._level(key, name, rate) for name, rate in _rates(key).items()]
        wait_s = max((level.wait_s(self._clock()) for level in levels), default=0.0)
        if wait_s > 0:
            return math.ceil(wait_s)
        self._take(key, "requests", 1)
        return 0

    def count_tokens(self, key: Key, num_tokens: int) -> None:
        """Count what a request computed: its tokens are known only after it was let in, so the next one pays."""
        self._take(key, "tokens", num_tokens)

    def _take(self, key: Key, name: str, number: int) -> None:
        rate = _rates(key).get(name)
        if rate:
            self._level(key, name, rate).take(number, self._clock())

    def _level(self, key: Key, name: str, per_minute: int) -> "_Level":
        level = self._levels.get((key.name, name))
        if level is None or level.per_minute != per_minute:
            level = self._levels[key.name, name] = _Level(per_minute, self._clock())
        return level


class _Level:
    """What is left of a rate: it fills evenly up to the amount of a minute, and may go below zero once."""

    def __init__(self, per_minute: int, now: float) -> None:
        self.per_minute = per_minute
        self._left, self._at = float(per_minute), now

    def take(self, number: int, now: float) -> None:
        self._fill(now)
        self._left -= number

    def wait_s(self, now: float) -> float:
        """Return the seconds until something is left."""
        self._fill(now)
        return max(0.0, (1 - self._left) * 60 / self.per_minute)

    def _fill(self, now: float) -> None:
        self._left = min(self._left + (now - self._at) * self.per_minute / 60, self.per_minute)
        self._at = now


def _rates(key: Key) -> dict[str, int]:
    rates = {"requests": key.requests_per_minute, "tokens": key.tokens_per_minute}
    return {name: rate for name, rate in rates.items() if rate is not None}


def _version(path: Path | None) -> _Version | None:
    """Return what changes when the file does; Kubernetes replaces a mounted Secret's file by another."""
    try:
        found = path.stat() if path else None
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_ino) if found else None
