"""The de-identification guard: identifiers that a pattern can find, counted by kind, masked, or a reason to drop.

A pattern-based filter for sources that were not de-identified: neither a de-identifier nor a legal finding. Matched text is never
kept. Nothing looks for what no pattern can tell: names without a title or label, a day and month in numbers (``12/25``), numbers
without a label. Clinical values that look like dates (APGAR 8/9/10, EC 3.4.21.4, doses) are told by their neighbours.
"""

import re
from collections import Counter

BLANK = "___"  # as MIMIC-IV-Note writes removed text

_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sept?(?:ember)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_DAY = r"(?:0?[1-9]|[12]\d|3[01])"
_MONTH_NUMBER = r"(?:0?[1-9]|1[0-2])"
_YEAR = r"(?:19|20|21)\d\d"
_ORDINAL = r"(?:st|nd|rd|th)"
_NO_DOSE = r"(?!\s?(?:mg|mcg|µg|g|ml|mL|units?)\b)(?!\s?%)"
_LETTER = r"[^\W\d_]"
# No name is longer, and the search in a text of letters alone would take minutes.
_NAME = rf"[A-ZÀ-ÖØ-ÞĀ-ŽΑ-ΩА-Я](?:{_LETTER}|['’-](?={_LETTER})){{1,60}}"
_NAMES = rf"(?:[A-Z]\. )?{_NAME}(?:,? (?:[A-Z]\b\.?|{_NAME})){{0,3}}"
_TWO_NAMES = rf"{_NAME},? (?:[A-Z]\b\.? )?{_NAME}(?: {_NAME})?"
_DASH = r"[ .\-\u2010-\u2013]"
_PHONE_WORD = (
    r"\b(?i:tel|telephone|phone|ph|fax|pager|cell|mobile|call|contact)\b\.?(?: (?:no|number)\.?)?[:#]?\s*(?:at )?"
)
_RECORD_WORD = (
    r"\b(?i:mrn|mr ?(?=[#:])|med(?:ical)?\.? rec(?:ord)?s?(?: number| no)?|record (?:number|no)|unit (?:number|no)|patient id|"
    r"account (?:number|no)|acct|encounter(?: number| no| ?(?=#))|visit (?:number|no)|hospital no|chart no|"
    r"accession(?: number| no)?|nhs (?:number|no))\.?"
)
_STREET = (
    "Street|St|Avenue|Ave|Road|Rd|Lane|Ln|Drive|Dr|Boulevard|Blvd|Court|Ct|Place|Pl|Square|Terrace|Way|Highway|Hwy"
)
_LETTERS = r"MD|M\.D\.|RN|R\.N\.|NP|PA-C|DO|PhD"
_LETTERED = ("MD", "M.D.", "RN", "R.N.", "NP", "PA-C", "DO", "PhD")
_SEPARATORS = ("a", "b", "c")  # groups of a date that match the same separator twice
_DASHES = "\u2010\u2011\u2012\u2013"
# In this order: text that an earlier pattern masked is not matched by a later one. A named group is masked alone.
PATTERNS: dict[str, re.Pattern[str]] = {
    # From the first character of a run: a search from each dot of ``a.a.a.a`` would take minutes.
    "email": re.compile(r"(?<![\w.+-])[.+-]*+(?P<id>\w[\w.+-]*+@[\w-]+(?:\.[\w-]+)+\b)"),
    "url": re.compile(r"\b(?:https?://|www\.)[^\s<>\"]*[^\s<>\".,;:)]"),
    "ip_address": re.compile(r"\b(?i:ip(?:v4)?(?: address)?)[ :]+(?P<id>\d{1,3}(?:\.\d{1,3}){3})\b"),
    "ssn": re.compile(
        r"\b(?i:ssn|social security(?: number| no)?)\b[ .:#]*(?P<id>\d{3}[ -]?\d{2}[ -]?\d{4})\b|"
        r"(?<![\d-])(?!000|666|9\d\d)\d{3}-(?!00)\d{2}-(?!0000)\d{4}(?![\d-])"
    ),
    "record_number": re.compile(_RECORD_WORD + r"[ .:#]*(?P<id>[A-Z]{0,3}\d(?:[\d-]|(?<=\d) (?=\d)){2,12}\d)\b"),
    "telephone": re.compile(
        rf"(?<![\w./-])(?:\+?\d{{1,2}}{_DASH})?(?:\(\d{{3}}\) ?|\d{{3}}{_DASH})\d{{3}}{_DASH}\d{{4}}(?![\w-]){_NO_DOSE}|"
        r"(?<!\w)\+\d{1,3}[ -]?(?:\(0\)[ -]?)?(?:\d[ -]?){7,11}\d(?!\w)|"
        rf"{_PHONE_WORD}(?P<id>\(?0\d{{2,4}}\)?{_DASH}?\d{{3,4}}{_DASH}?\d{{3,4}}|"
        rf"(?:\d{{3}}{_DASH}?)?\d{{3}}{_DASH}?\d{{4}})(?!\w)"
    ),
    "date": re.compile(
        rf"(?<![\w/.-])(?:{_YEAR}(?P<a>[-/.]){_MONTH_NUMBER}(?P=a){_DAY}|"
        rf"{_MONTH_NUMBER}(?P<b>[/.-]){_DAY}(?P=b)(?:{_YEAR}|\d\d)|{_DAY}(?P<c>[/.-]){_MONTH_NUMBER}(?P=c)(?:{_YEAR}|\d\d))"
        rf"(?![\d/-]|\.\d){_NO_DOSE}|"
        rf"\b(?i:{_MONTH})\.? {_DAY}(?:{_ORDINAL}?,? {_YEAR}|{_ORDINAL})\b|"
        rf"\b{_DAY}{_ORDINAL}?(?:[ -]| of )(?i:{_MONTH})\.?,?(?:[ -]{_YEAR}|-\d\d)\b"
    ),
    "age_over_89": re.compile(
        r"\b(?:9\d|1[01]\d)(?=[- ]?(?:(?:years?|yrs?)[- ](?:old|of age)|yo|y/o|y\.o\.)(?!\w))|"
        r"\b(?i:aged?)[: ]+(?:of )?(?P<id>9\d|1[01]\d)\b(?![/.%\d-])"
    ),
    "address": re.compile(
        rf"\b\d{{1,5}}[A-Z]? (?:[NSEW]\.? )?(?:{_NAME} ){{1,3}}(?:{_STREET})\b\.?(?:,? (?:Apt|Unit|Suite|#)\.? ?\w+)?|"
        rf"\b(?i:p\.? ?o\.? box) \d+\b|(?<=, )[A-Z]{{2}} \d{{5}}(?:-\d{{4}})?\b"
    ),
    "name": re.compile(
        rf"(?<!rug )(?<!rand )(?<!rade )(?<!eneric )(?<!ile )\b(?:[Nn]ame|NAME):\s*(?P<id>{_NAMES})|"
        rf"\b(?:Patient|PATIENT|Pt|Contact|Spouse|Wife|Husband|Mother|Father|Daughter|Son):\s*(?P<two>{_TWO_NAMES})|"
        rf"\b(?:Attending|ATTENDING|Physician|Provider|Surgeon|Nurse|PCP|(?i:signed by|dictated by|seen by)):\s*"
        rf"(?P<staff>{_NAMES})|"
        rf"\b(?:Dr|Mr|Mrs|Ms|Miss|Prof|(?:DR|MR|MRS|PROF)(?=\.))\.? (?P<titled>{_NAMES})|"
        rf"(?P<lettered>{_TWO_NAMES})(?=,? (?:{_LETTERS})(?!\w))"
    ),
}
# A shape is a copy with every digit as 0 and every separator as -. Plain searches in it cost a hundredth of a pattern.
_SHAPE = bytes.maketrans(b"123456789 ./,", b"000000000----")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DATE_PARTS = (
    *(b"0-0-0", b"0-00-0", b"-0000", b"-00-00", b"0st", b"0nd", b"0rd", b"0th"),
    *(f"0-{month}".encode() for month in _MONTHS),
)
_RECORD_WORDS = (
    *(
        "mrn",
        "mr#",
        "mr #",
        "mr:",
        "med rec",
        "med. rec",
        "medical rec",
        "record n",
        "unit n",
        "patient id",
        "account n",
    ),
    *("acct", "encounter", "visit n", "hospital no", "chart no", "accession", "nhs n"),
)
_PHONE_WORDS = ("tel", "ph", "fax", "pager", "cell", "mobile", "call", "contact")
_NAME_WORDS = (
    *(
        "ame:",
        "AME:",
        "atient:",
        "ATIENT:",
        "Pt:",
        "ontact:",
        "Spouse:",
        "Wife:",
        "Husband:",
        "Mother:",
        "Father:",
        "Daughter:",
    ),
    *(
        "Son:",
        "ttending:",
        "TTENDING:",
        "hysician:",
        "rovider:",
        "urgeon:",
        "urse:",
        "PCP:",
        " by:",
        " BY:",
        "Dr",
        "Mr",
        "Ms",
    ),
    *("Miss", "Prof", "DR.", "MR.", "MRS.", "PROF."),
)
_AGE_PARTS = (b"00-y", b"00y", b"age-00", b"age--00", b"aged-00", b"aged-of-00", b"aged:-00", b"age:-00")
_STREET_PARTS = (
    *(
        b"street",
        b"-st",
        b"-ave",
        b"-road",
        b"-rd",
        b"-lane",
        b"-ln",
        b"-drive",
        b"-dr",
        b"boulevard",
        b"blvd",
        b"-court",
        b"-ct",
    ),
    *(b"-place", b"-pl", b"-square", b"terrace", b"-way", b"highway", b"-hwy", b"box-0", b"-00000"),
)
_DATE = re.compile(
    r"\d(?:[/.-]\d{1,2}[/.-]\d|(?:st|nd|rd|th)\b|,? (?:19|20|21)\d\d|"
    r"(?:[ -]| of )(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))|"
    r"\d{4}[/.-]\d{1,2}[/.-]\d"
)
_STREET_NUMBER = re.compile(r"\d[A-Z]? (?:[NSEW]\.? )?[^\W\d_a-z]|(?i:box) \d|, [A-Z][A-Z] \d")
_LETTERED_NAME = re.compile(rf",? (?:{_LETTERS})(?!\w)")
_ASCII = bytes(range(128))


def mask_identifiers(text: str) -> tuple[str, Counter[str]]:
    """Return ``text`` with each identifier replaced by ``___``, and the number of each kind."""
    counts: Counter[str] = Counter()
    lower = text.lower()
    encoded = lower.encode()
    shape = encoded.translate(_SHAPE)
    # Other digits and dashes than ASCII's are not in the shape.
    foreign = not text.isascii() and any(
        c.isdecimal() or c in _DASHES for c in encoded.translate(None, _ASCII).decode()
    )
    for kind, pattern in PATTERNS.items():
        # Masking removes digits and adds none: the shape of the original text still holds every match.
        if not _may_hold(kind, text, lower=lower, shape=shape, foreign=foreign):
            continue
        text, number = pattern.subn(_masked, text)
        if number:
            counts[kind] += number
    return text, counts


def _masked(match: re.Match[str]) -> str:
    """Return the match with its identifier masked: the group that took part, or all of it."""
    group = next((name for name, value in match.groupdict().items() if value and name not in _SEPARATORS), None)
    if group is None:
        return BLANK
    start, end = match.span(group)
    return f"{match.string[match.start() : start]}{BLANK}{match.string[end : match.end()]}"


def _may_hold(kind: str, text: str, *, lower: str, shape: bytes, foreign: bool) -> bool:
    """Return False only where the kind's pattern cannot match; ``foreign``: the text has digits that are not in its shape."""
    match kind:
        case "email":
            return "@" in text
        case "url":
            return "://" in text or "www." in text
        case "ip_address":
            return "ip" in lower and (foreign or b"0-0" in shape)
        case "ssn":
            return foreign or b"0-00-0000" in shape or "ssn" in lower or "social security" in lower
        case "record_number":
            return any(word in lower for word in _RECORD_WORDS)
        case "telephone":
            numbered = b"0-0000" in shape or b"+0" in shape
            return foreign or numbered or (b"0000000" in shape and any(word in lower for word in _PHONE_WORDS))
        case "date":
            return (foreign or any(part in shape for part in _DATE_PARTS)) and _DATE.search(text) is not None
        case "age_over_89":
            return foreign or any(part in shape for part in _AGE_PARTS)
        case "address":
            may = foreign or any(part in shape for part in _STREET_PARTS)
            return may and _STREET_NUMBER.search(text) is not None
    assert kind == "name", kind
    if any(word in text for word in _NAME_WORDS):
        return True
    return any(letters in text for letters in _LETTERED) and _LETTERED_NAME.search(text) is not None
