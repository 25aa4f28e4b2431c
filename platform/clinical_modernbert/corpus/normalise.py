"""Text in, text out: Unicode NFC, no control characters, no trailing blanks.

Nothing is folded: case, accents, digits and punctuation stay, since a dose or a code may hang on them.
"""

import re
import unicodedata

# Tab and newline stay; a carriage return becomes a newline; every other control, surrogate or zero-width mark goes.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")
_LINE_END_BLANKS = re.compile(r"[ \t\u00a0]+(?=\n|$)")
_MANY_NEWLINES = re.compile(r"\n{3,}")


def normalise(text: str) -> str:
    """Return ``text`` in NFC without control characters, trailing blanks or more than one empty line in a row."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    text = unicodedata.normalize("NFC", _CONTROL.sub("", text))
    return _MANY_NEWLINES.sub("\n\n", _LINE_END_BLANKS.sub("", text)).strip()
