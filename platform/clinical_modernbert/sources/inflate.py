"""The bytes of a file, inflated where its first bytes are gzip's, up to the first damage. Memory is bounded by the chunk."""

import zlib
from collections.abc import Iterator
from typing import IO, Any

GZIP_MAGIC = b"\x1f\x8b"
_INPUT_BYTES = 1 << 16
_OUTPUT_BYTES = 1 << 18


class DamagedFileError(Exception):
    """A file cannot be read from a position on; everything before it was yielded."""

    def __init__(
        self, position: str, reason: str, *, is_cut: bool = False, unread_bytes: int = 0, doubtful_bytes: int = 0
    ) -> None:
        super().__init__(f"{position}: {reason}")
        self.position = position
        self.reason = reason
        self.is_cut = is_cut
        """Whether the file ends there although more was to come."""
        self.unread_bytes = unread_bytes
        """As in ``Quarantined``."""
        self.doubtful_bytes = doubtful_bytes
        """Inflated bytes before it whose check sum is not right: what of them was changed is unknown."""


def inflated(stream: IO[bytes]) -> Iterator[bytes]:
    """Yield the content of a file, plain or gzip; raises ``DamagedFileError`` after the last readable byte."""
    head = stream.read(_INPUT_BYTES)
    if not head.startswith(GZIP_MAGIC):
        while head:
            yield head
            head = stream.read(_OUTPUT_BYTES)
        return
    count = 0
    try:
        for chunk in _inflate_fast(head, iter(lambda: stream.read(_INPUT_BYTES), b"")):
            yield chunk
            count += len(chunk)
        return
    except _FastInflateError:
        # Inflated again by zlib, which can tell the last readable byte and its position.
        stream.seek(0)
    for chunk in _inflate(stream.read(_INPUT_BYTES), iter(lambda: stream.read(_INPUT_BYTES), b"")):
        done = min(count, len(chunk))
        count -= done
        if done < len(chunk):
            yield chunk[done:]


class _FastInflateError(Exception):
    """The archive is not one or more whole gzip members."""


def _inflate_fast(head: bytes, later: Iterator[bytes]) -> Iterator[bytes]:
    """Inflate by ISA-L, at more than twice the speed of zlib; anything but whole members is ``_FastInflateError``."""
    from isal import isal_zlib

    isal_error: Any = isal_zlib.error  # a class; its stub declares an instance
    data = head
    while True:
        member = isal_zlib.decompressobj(wbits=31)
        while not member.eof:
            data = data or next(later, b"")
            if not data:
                raise _FastInflateError
            try:
                chunk = member.decompress(data, _OUTPUT_BYTES)
            except isal_error:
                raise _FastInflateError from None
            if chunk:
                yield chunk
            data = member.unused_data if member.eof else member.unconsumed_tail
        data = data or next(later, b"")
        if not data:
            return
        if not data.startswith(GZIP_MAGIC[:1]):
            raise _FastInflateError  # zero padding, or damage


def _inflate(head: bytes, later: Iterator[bytes]) -> Iterator[bytes]:
    data = head
    position = 0  # compressed bytes consumed before `data`
    doubtful = 0  # inflated bytes of the member, whose check sum is at its end
    member = zlib.decompressobj(wbits=31)
    while True:
        if not data:
            data = next(later, b"")
            if not data:
                raise DamagedFileError(f"byte {position}", "the gzip archive is truncated", is_cut=True)
        before = member.copy()
        try:
            chunk = member.decompress(data, _OUTPUT_BYTES)
        except zlib.error as error:
            salvaged, length = _salvage(before, data)
            if salvaged:
                yield salvaged
            reason = f"the gzip archive is broken ({error})"
            raise DamagedFileError(
                f"byte {position + length}", reason, doubtful_bytes=doubtful + len(salvaged)
            ) from None
        if chunk:
            yield chunk
            doubtful += len(chunk)
        remaining = member.unused_data if member.eof else member.unconsumed_tail
        position += len(data) - len(remaining)
        data = remaining
        if member.eof:
            doubtful = 0
            # Archives may hold several members (as daily exports joined with cat do) and zero padding between and after them.
            padded = data
            data = padded.lstrip(b"\0")
            while not data:
                position += len(padded)
                padded = next(later, b"")
                if not padded:
                    return
                data = padded.lstrip(b"\0")
            position += len(padded) - len(data)
            member = zlib.decompressobj(wbits=31)


def _salvage(member: "zlib._Decompress", data: bytes) -> tuple[bytes, int]:
    """Inflate byte by byte up to the damage, which zlib reports for a whole call; return the output and the bytes consumed."""
    output = []
    for index in range(len(data)):
        try:
            output.append(member.decompress(data[index : index + 1]))
        except zlib.error:
            return b"".join(output), index
    return b"".join(output), len(data)
