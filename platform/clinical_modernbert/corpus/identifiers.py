"""The de-identification guard: identifiers that a pattern can find, counted by kind, masked, or a reason to drop.

A pattern-based filter for sources that were not de-identified: neither a de-identifier nor a legal finding. Matched text is
never kept.
"""

import re
from collections import Counter

BLANK = "___"  # as MIMIC-IV-Note writes removed text

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_YEAR = r"(?:19|20)\d\d"
_NAME = r"[A-Z][a-zA-Z'’-]+"
# In this order: text that an earlier pattern masked is not matched by a later one.
PATTERNS: dict[str, re.Pattern[str]] = {
    "email": re.compile(r"\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b"),
    "ssn": re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"),
    "record_number": re.compile(
        r"(?i:\b(?:mrn|medical record(?: number| no)?|record (?:number|no)|unit no|patient id|account (?:number|no)|acct|"
        r"hospital no|chart no|nhs (?:number|no))\b[.:#]?)\s*(?:#\s*)?[A-Z]{0,3}\d[\d-]{3,13}\b"
    ),
    "telephone": re.compile(
        r"(?<![\w./-])(?:\+?\d{1,2}[ .-])?(?:\(\d{3}\) ?|\d{3}[ .-])\d{3}[ .-]\d{4}(?![\w-])|"
        r"(?<!\w)\+\d{1,3}[ -]?(?:\d[ -]?){7,11}\d(?!\w)"
    ),
    "date": re.compile(
        rf"(?<![\d/.-])(?:{_YEAR}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])|{_DAY}[/.]{_DAY}[/.](?:{_YEAR}|\d\d)|"
        rf"{_DAY}-{_DAY}-{_YEAR})(?![\d/-])|\b(?i:{_MONTH})\.? {_DAY}(?:st|nd|rd|th)?,? {_YEAR}\b|"
        rf"\b{_DAY}(?:st|nd|rd|th)?[ -](?i:{_MONTH})\.?,?[ -]{_YEAR}\b"
    ),
    "name": re.compile(
        rf"(?<=name: )(?!_){_NAME}(?:,? (?:[A-Z]\.|{_NAME})){{0,3}}|"
        rf"(?:(?<=Name: )|(?<=NAME: )|(?<=Patient: )|(?<=PATIENT: )|(?<=Attending: )|(?<=Physician: )|(?<=Provider: )|"
        rf"(?<=Surgeon: )|(?<=Signed by: )|(?<=Dictated by: )|(?<=\bDr\. )|(?<=\bDr )|(?<=\bMr\. )|(?<=\bMrs\. )|(?<=\bMs\. ))"
        rf"(?!_){_NAME}(?:,? (?:[A-Z]\.|{_NAME})){{0,3}}"
    ),
}
# What a text must hold for a pattern to match. Plain searches in a copy with every digit as 0 and every separator as - come
# first, at a hundredth of the patterns' cost; then a pattern without look-behind.
_SHAPE = bytes.maketrans(b"123456789 ./,", b"000000000----")
_SHAPES: dict[str, tuple[bytes, ...]] = {
    "ssn": (b"0-00-0000",),
    "telephone": (b"0-0000", b"+0"),
    "date": (b"0-0-0", b"0-00-0", b"-0000"),  # numbers only, or a year after a blank
}
_DIGITS = {
    "record_number": re.compile(r"\d[\d-]{3}"),
    "date": re.compile(
        r"\d(?:[/.-]\d{1,2}[/.-]\d|(?:st|nd|rd|th)?(?:,? (?:19|20)\d\d|"
        r"[ -](?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)))"
    ),
}
_ASCII = bytes(range(128))
_LABELS = (
    "ame: ", "AME: ", "atient: ", "ATIENT: ", "ttending: ", "hysician: ", "rovider: ", "urgeon: ", " by: ",
)  # fmt: skip
_TITLES = ("Dr. ", "Dr ", "Mr. ", "Mrs. ", "Ms. ")
_RECORD_WORDS = ("mrn", "record", "unit no", "patient id", "account n", "acct", "hospital no", "chart no", "nhs n")


def mask_identifiers(text: str) -> tuple[str, Counter[str]]:
    """Return ``text`` with each identifier replaced by ``___``, and the number of each kind."""
    counts: Counter[str] = Counter()
    encoded = text.encode()
    shape = encoded.translate(_SHAPE)
    foreign = not text.isascii() and any(map(str.isdecimal, encoded.translate(None, _ASCII).decode()))
    for kind, pattern in PATTERNS.items():
        # Masking removes digits and adds none: the shape of the original text still holds every match.
        if not _may_hold(text, kind, shape=shape, foreign=foreign):
            continue
        text, number = pattern.subn(BLANK, text)
        if number:
            counts[kind] += number
    return text, counts


def _may_hold(text: str, kind: str, *, shape: bytes, foreign: bool) -> bool:
    """Return False only where the kind's pattern cannot match; ``foreign``: the text has digits that are not in its shape."""
    if kind == "email":
        return "@" in text
    if kind == "name":
        return _any_in(_TITLES, text) or (": " in text and _any_in(_LABELS, text))
    if kind == "record_number" and not _any_in(_RECORD_WORDS, text.lower()):
        return False
    if not foreign and kind in _SHAPES and not any(part in shape for part in _SHAPES[kind]):
        return False
    return kind not in _DIGITS or _DIGITS[kind].search(text) is not None


def _any_in(words: tuple[str, ...], text: str) -> bool:
    return any(word in text for word in words)
