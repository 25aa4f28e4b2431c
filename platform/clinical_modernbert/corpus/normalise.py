"""The form in which a corpus holds its texts, and in which evaluation sets are compared with them.

Nothing visible is changed: case, accents, digits and punctuation stay, because a dose or a code may depend on them. Nothing is
joined either: what separates two words or numbers becomes a line break or a blank, never nothing. The one exception is a soft
hyphen between two letters, which is inside of a word.
"""

import re
import unicodedata

_C1 = "".join(map(chr, range(0x80, 0xA0)))
# Line and page separators, as str.splitlines() knows them.
_BREAKS = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
# Control characters, zero-width spaces, byte order marks, noncharacters and lone surrogates.
_ODD = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]+")
_SOFT_HYPHEN = "\u00ad"
_SOFT_HYPHEN_IN_WORD = re.compile(rf"(?<=[^\W\d_]){_SOFT_HYPHEN}(?=[^\W\d_])")
# Only from the first blank of a run: a search from each of them would take minutes for a line of 100,000 blanks.
_LINE_END_BLANKS = re.compile(r"[ \t\u00a0](?<![ \t\u00a0]{2})[ \t\u00a0]*+(?=\n|$)")
_MANY_NEWLINES = re.compile(r"\n{3,}")


def normalise(text: str) -> str:
    """Return ``text`` in NFC without control characters, trailing blanks or more than one empty line in a row.

    C1 controls are the characters of Windows-1252 that a wrong decoder left: ``5\\x9610 mg`` is ``5–10 mg``.
    """
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    if _ODD.search(text):
        text = _from_windows_1252(text)
        text = _ODD.sub(_separator, text)
    if _SOFT_HYPHEN in text:
        text = _SOFT_HYPHEN_IN_WORD.sub("", text).replace(_SOFT_HYPHEN, "-")
    text = unicodedata.normalize("NFC", text)
    return _MANY_NEWLINES.sub("\n\n", _LINE_END_BLANKS.sub("", text)).strip()


def _separator(odd: re.Match[str]) -> str:
    breaks = sum(map(odd[0].count, _BREAKS))
    if breaks:
        return "\n" * breaks
    before, after = odd.string[odd.start() - 1 : odd.start()], odd.string[odd.end() : odd.end() + 1]
    return "" if before.isspace() or after.isspace() else " "


def _from_windows_1252(text: str) -> str:
    """Decode C1 controls; U+0085 alone is a line break, and an ellipsis only next to other characters of Windows-1252."""
    codes = {ord(character) for character in _C1 if character in text}
    if codes <= {0x85}:
        return text
    # Five of the 32 are not in Windows-1252 and stay what they are.
    return text.translate({code: bytes([code]).decode("cp1252", errors="ignore") or chr(code) for code in codes})
