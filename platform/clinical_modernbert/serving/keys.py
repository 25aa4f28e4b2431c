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
    digest = hashlib.sha256(token.strip().encode()).digest()
    match = None
    for key in keys:
        if hmac.compare_digest(key.digest, digest) and scheme.lower() == "bearer":
            match = key
    return match


def keys_from_environment(environment: Mapping[str, str] = os.environ, *, required: bool) -> tuple[Key, ...]:
    """Return the keys of the environment, or none if it has none; raises ``RecipeError``."""
    path, text = environment.get(FILE_VARIABLE), environment.get(TEXT_VARIABLE)
    if path and text:
        raise RecipeError(f"both {FILE_VARIABLE} and {TEXT_VARIABLE} are set: set one of them")
    if path:
        try:
            text = Path(path).read_text(encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"{FILE_VARIABLE}={path} cannot be read: {error.strerror}") from None
        keys = parse_keys(text, origin=path)
    else:
        keys = parse_keys(text, origin=TEXT_VARIABLE) if text else ()
    named = bool(path or text)
    if not keys and (named or required):
        raise RecipeError(f"no API keys: {FILE_VARIABLE} or {TEXT_VARIABLE} must hold lines {_FORM}")
    return keys


def parse_keys(text: str, *, origin: str) -> tuple[Key, ...]:
    """Return the keys of a keys file; raises ``RecipeError`` with the line's number, never with its content."""
    keys: list[Key] = []
    for number, line in enumerate(text.splitlines(), start=1):
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
        keys.append(Key(name=parts[0], digest=bytes.fromhex(parts[1]), scopes=scopes))
    return tuple(keys)


def _is_digest(text: str) -> bool:
    return len(text) == 64 and all(character in "0123456789abcdefABCDEF" for character in text)
