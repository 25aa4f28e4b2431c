"""The few messages that Helm sends to Kubernetes as protobuf: releases in Secrets, and the envelope of any object.

Field numbers are those of Kubernetes' generated.proto files. Answers may be JSON, so there is no encoder.
"""

import base64
from collections.abc import Iterator
from typing import Any

_MAGIC = b"k8s\0"


def decode(body: bytes) -> dict[str, Any]:
    """Return the object in ``body`` as its JSON; kinds other than those below have no content."""
    if not body.startswith(_MAGIC):
        raise ValueError("not a protobuf of Kubernetes")
    envelope = dict(_fields(body[len(_MAGIC) :]))
    meta = dict(_fields(envelope[1]))
    kind = meta[2].decode()
    fields = list(_fields(envelope.get(2, b"")))
    document: dict[str, Any] = {"apiVersion": meta[1].decode(), "kind": kind}
    if kind in ("Secret", "ConfigMap", "Namespace"):
        document["metadata"] = _metadata(next(value for number, value in fields if number == 1))
    if kind == "Secret":
        pairs = [_pair(value) for number, value in fields if number == 2]
        document["data"] = {key: base64.b64encode(value).decode() for key, value in pairs}
        document["type"] = next((value.decode() for number, value in fields if number == 3), "Opaque")
    if kind == "ConfigMap":
        document["data"] = {key: value.decode() for number, raw in fields if number == 2 for key, value in [_pair(raw)]}
    return document


def _metadata(message: bytes) -> dict[str, Any]:
    found: dict[str, Any] = {}
    names = {1: "name", 3: "namespace", 5: "uid", 6: "resourceVersion"}
    for number, value in _fields(message):
        if number in names and value:
            found[names[number]] = value.decode()
        elif number in (11, 12):
            key, text = _pair(value)
            found.setdefault({11: "labels", 12: "annotations"}[number], {})[key] = text.decode()
    return found


def _pair(message: bytes) -> tuple[str, bytes]:
    fields = dict(_fields(message))
    return fields.get(1, b"").decode(), fields.get(2, b"")


def _fields(message: bytes) -> Iterator[tuple[int, Any]]:
    """Yield ``field number, value`` of a message: bytes if it has a length, otherwise a number."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if tag & 7 == 2:
            size, at = _varint(message, at)
            yield tag >> 3, message[at : at + size]
            at += size
        elif tag & 7 == 0:
            value, at = _varint(message, at)
            yield tag >> 3, value
        else:
            raise ValueError(f"wire type {tag & 7} is not used by these messages")


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
