"""API keys: several, named, stored as hashes, compared in constant time.

A keys file has one key on each line, ``<name> <sha256 of the key, in hex> [scope,scope] [option=value ...]``; ``#`` begins a
comment:

    registry-team  <sha256>
    triage-app     <sha256>  embed  expires=2027-06-30 requests_per_minute=600 tokens_per_minute=200000

It is a mounted Secret (``CLINICAL_API_KEYS_FILE``) or the value of ``CLINICAL_API_KEYS``. Two keys may be valid at the same
time, so that one can be replaced while the other still works. Keys are long and random, so a plain hash suffices: unlike
passwords they cannot be guessed. ``key_ring`` reads a file again after it changed.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Literal, TypedDict, get_args

from clinical_modernbert.errors import RecipeError

FILE_VARIABLE = "CLINICAL_API_KEYS_FILE"
TEXT_VARIABLE = "CLINICAL_API_KEYS"
KeyScope = Literal["embed", "fill-mask", "predict"]
"""What a key may be used for; each route names one of them."""
SCOPES: frozenset[str] = frozenset(get_args(KeyScope))
AnyKey = Literal["any"]
"""In the place of a scope: every key may use the route."""
_EMPTY = hashlib.sha256(b"").digest()
_FORM = (
    "<name> <sha256 of the key in hex> [embed,fill-mask,predict] "
    "[expires=YYYY-MM-DD] [requests_per_minute=N] [tokens_per_minute=N] [models=NAME,NAME]"
)


@dataclass(frozen=True, slots=True)
class Key:
    """One accepted key, without the key itself."""

    name: str
    """Name in the audit line."""
    digest: bytes
    """sha256 of the key."""
    scopes: frozenset[str]
    expires: date | None = None
    """Last day on which it is accepted, in UTC."""
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    """Both for each replica; None is no limit."""
    models: tuple[str, ...] | None = None
    """Models that it may use, by id or by name alone; the first that is served answers its requests that name none. None: all."""


def find_key(keys: tuple[Key, ...], header: str | None, *, today: date | None = None) -> Key | None:
    """Return the key of an ``Authorization`` header, or None; the time this takes reveals nothing about the keys."""
    today = today or datetime.now(UTC).date()
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    digest = hashlib.sha256(token.encode()).digest()
    match = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest) and scheme.lower() == "bearer" and token:
            match = key
    return match if match is None or match.expires is None or today <= match.expires else None


def keys_from_environment(environment: Mapping[str, str] = os.environ, *, required: bool) -> tuple[Key, ...]:
    """Return the keys of the environment, or none if no variable is set; raises ``RecipeError``.

    A variable that is set and empty is an error: an unset Helm or compose value must not open the endpoint.
    """
    path, text = environment.get(FILE_VARIABLE), environment.get(TEXT_VARIABLE)
    if path is not None and text is not None:
        raise RecipeError(f"both {FILE_VARIABLE} and {TEXT_VARIABLE} are set: set one of them")
    is_set = path is not None or text is not None
    keys = parse_keys(text or "", origin=TEXT_VARIABLE) if path is None else parse_keys(_read(path), origin=path)
    if not keys and (is_set or required):
        unset = ", or both variables must be unset to serve without keys" if is_set and not required else ""
        raise RecipeError(f"no API keys: {FILE_VARIABLE} or {TEXT_VARIABLE} must hold lines {_FORM}{unset}")
    return keys


def _read(path: str) -> str:
    if not path:
        raise RecipeError(f"no API keys: {FILE_VARIABLE} is set and empty; name a file, or unset it")
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"{FILE_VARIABLE}={path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise RecipeError(f"{FILE_VARIABLE}={path} is not UTF-8 at byte {error.start}") from None


def parse_keys(text: str, *, origin: str) -> tuple[Key, ...]:
    """Return the keys of a keys file; raises ``RecipeError`` with the line's number, never with its content."""
    keys: list[Key] = []
    # Editors on Windows may begin a file with a byte-order mark, which would become part of the first name.
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        parts = line.partition("#")[0].split()
        if not parts:
            continue
        named = [part for part in parts[2:] if "=" not in part]
        if len(parts) < 2 or len(named) > 1 or not _is_digest(parts[1]):
            raise RecipeError(f"{origin}, line {number}: must be {_FORM}")
        scopes = frozenset(named[0].split(",")) if named else SCOPES
        if not scopes <= SCOPES:
            raise RecipeError(f"{origin}, line {number}: scopes must be among {', '.join(sorted(SCOPES))}")
        if any(key.name == parts[0] for key in keys):
            raise RecipeError(f"{origin}, line {number}: the name of an earlier line is used again")
        digest = bytes.fromhex(parts[1])
        if digest == _EMPTY:
            raise RecipeError(
                f"{origin}, line {number}: this is the hash of an empty key: was the key's variable empty?"
            )
        if any(key.digest == digest for key in keys):
            raise RecipeError(f"{origin}, line {number}: the key of an earlier line is used again")
        options = _options([part for part in parts[2:] if "=" in part], line=f"{origin}, line {number}")
        keys.append(Key(name=parts[0], digest=digest, scopes=scopes, **options))
    return tuple(keys)


class _Options(TypedDict, total=False):
    expires: date
    requests_per_minute: int
    tokens_per_minute: int
    models: tuple[str, ...]


def _options(parts: Sequence[str], *, line: str) -> _Options:
    found: _Options = {}
    for part in parts:
        name, _, value = part.partition("=")
        try:
            if name in found:  # which one holds is not clear
                raise ValueError(name)
            if name == "expires":
                found["expires"] = date.fromisoformat(value)
            elif name == "requests_per_minute":
                found["requests_per_minute"] = _positive(value)
            elif name == "tokens_per_minute":
                found["tokens_per_minute"] = _positive(value)
            elif name == "models" and all(value.split(",")):
                found["models"] = tuple(value.split(","))
            else:
                raise ValueError(name)
        except ValueError:
            raise RecipeError(f"{line}: must be {_FORM}") from None
    return found


def _positive(value: str) -> int:
    number = int(value)
    if number < 1:
        raise ValueError(number)
    return number


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdefABCDEF" for character in text)
