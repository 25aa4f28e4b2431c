"""API keys: several, named, stored as hashes, compared in constant time.

A keys file has one key on each line, ``<name> <sha256 of the key, in hex> [scope,scope]``; ``#`` begins a comment:

    registry-team  <sha256>
    triage-app     <sha256>  embed

It is a mounted Secret (``CLINICAL_API_KEYS_FILE``) or the value of ``CLINICAL_API_KEYS``. Two keys may be valid at the same
time, so that one can be replaced while the other still works. Keys are long and random, so a plain hash suffices: unlike
passwords they cannot be guessed.
"""

import hashlib
import hmac
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from clinical_modernbert.errors import RecipeError

FILE_VARIABLE = "CLINICAL_API_KEYS_FILE"
TEXT_VARIABLE = "CLINICAL_API_KEYS"
KeyScope = Literal["embed", "fill-mask", "predict"]
"""What a key may be used for; each route names one of them."""
SCOPES: frozenset[str] = frozenset(get_args(KeyScope))
AnyKey = Literal["any"]
"""In the place of a scope: every key may use the route."""
_EMPTY = hashlib.sha256(b"").digest()
_FORM = "<name> <sha256 of the key in hex> [embed,fill-mask,predict]"


@dataclass(frozen=True, slots=True)
class Key:
    """One accepted key, without the key itself."""

    name: str
    """Name in the audit line."""
    digest: bytes
    """sha256 of the key."""
    scopes: frozenset[str]


def find_key(keys: tuple[Key, ...], header: str | None) -> Key | None:
    """Return the key of an ``Authorization`` header, or None; the time this takes reveals nothing about the keys."""
    scheme, _, token = (header or "").partition(" ")
    token = token.strip()
    digest = hashlib.sha256(token.encode()).digest()
    match = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest) and scheme.lower() == "bearer" and token:
            match = key
    return match


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
        if len(parts) not in (2, 3) or not _is_digest(parts[1]):
            raise RecipeError(f"{origin}, line {number}: must be {_FORM}")
        scopes = frozenset(parts[2].split(",")) if len(parts) == 3 else SCOPES
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
        keys.append(Key(name=parts[0], digest=digest, scopes=scopes))
    return tuple(keys)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdefABCDEF" for character in text)
