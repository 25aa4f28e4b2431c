"""British spellings of American terms, by the parts of words in which they differ."""

import re
from collections.abc import Iterable

# American -> British. Each part is long enough to be safe: ``hem`` alone would change ``chemical``.
_PARTS = {
    "anem": "anaem", "anesth": "anaesth", "cecal": "caecal", "cecum": "caecum", "celiac": "coeliac", "cesarean": "caesarean",
    "diarrhea": "diarrhoea", "edema": "oedema", "emia": "aemia", "emic": "aemic", "esophag": "oesophag", "estrogen": "oestrogen",
    "estrus": "oestrus", "feces": "faeces", "fecal": "faecal", "fetal": "foetal", "fetus": "foetus", "fiber": "fibre",
    "gynec": "gynaec", "hemangi": "haemangi", "hemat": "haemat", "hemo": "haemo", "hemorrh": "haemorrh", "leukocyt": "leucocyt",
    "maneuver": "manoeuvre", "orthopedic": "orthopaedic", "paresthes": "paraesthes", "pediatric": "paediatric", "rrhea": "rrhoea",
    "sulf": "sulph", "tumor": "tumour", "uremi": "uraemi",
}  # fmt: skip
_ANY = re.compile("|".join(sorted(map(re.escape, _PARTS), key=len, reverse=True)))
# Whole words in which a part only looks like one of these.
_NOT = frozenset({"chemo", "academic", "endemic", "epidemic", "pandemic", "systemic", "polemic"})


def with_british(terms: Iterable[str]) -> set[str]:
    """Return the terms and, where one differs, the British spelling of each."""
    found = set(terms)
    return found | {british(term) for term in found if _ANY.search(term)}


def british(term: str) -> str:
    """Return the British spelling of a term in lower case; one that is British already stays as it is."""
    return " ".join(
        word if any(part in word for part in _NOT) else _ANY.sub(_replaced, word) for word in term.split(" ")
    )


def _replaced(match: re.Match[str]) -> str:
    # Already British: ``anaemia`` has the part ``emia`` after an a.
    before = match.string[match.start() - 1 : match.start()]
    return match[0] if before in ("a", "o") and match[0][0] == "e" else _PARTS[match[0]]
