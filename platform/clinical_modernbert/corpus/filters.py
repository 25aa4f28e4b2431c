"""Filters on normalised text: each returns the reason to drop a document.

Cheap rules come first. A text with enough English function words is English, since no text in another language has as many;
only other texts are classified by py3langid. On English abstracts that is 50 times as fast.
"""

import math
import re
from functools import lru_cache
from itertools import islice

import py3langid

from clinical_modernbert.lexicon import Matcher, build_terms
from clinical_modernbert.recipe.corpus import FilterSection, LexiconSection

_MIN_LANGUAGE_WORDS = 20
_ENGLISH = re.compile(r"\b(?:the|and|with|were|that|this|from|which|have|has|been)\b")
_ENGLISH_SHARE = 0.04
# Thai, Lao, Burmese, Khmer, kana, Chinese characters.
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff]")
_NGRAM = 5
_MIN_REPETITION_WORDS = 50
_MIN_LETTERS = 0.4
_NO_LETTERS = bytes(code for code in range(128) if not chr(code).isalpha())
_NOTICES = re.compile(
    r"\A\W*(?:this (?:article|paper|publication) (?:has been|was) (?:retracted|withdrawn)|"
    r"(?:the )?abstract (?:is )?not available|"
    r"no abstract (?:is )?available|\[?this corrects the article|(?:404|403) (?:not found|forbidden)|access denied|"
    r"please enable (?:javascript|cookies)|page intentionally left blank)",
    re.IGNORECASE,
)
_MAX_NOTICE_CHARACTERS = 600


def drop_reason(text: str, section: FilterSection, *, lexicon: LexiconSection, language: str | None) -> str | None:
    """Return the reason to drop a normalised text, or None; ``language`` is the result of ``detect_language``."""
    if len(text) < section.min_characters:
        return "too_short"
    if len(text) > section.max_characters:
        return "too_long"
    if section.drop_boilerplate and is_boilerplate(text):
        return "boilerplate"
    if is_repetitive(text, section):
        return "repetition"
    if section.languages is not None and language is not None and language not in section.languages:
        return "language"
    if section.min_term_density and term_density(text, lexicon) < section.min_term_density:
        return "few_terms"
    return None


def is_boilerplate(text: str) -> bool:
    """Return whether a text is a notice instead of an article, or has hardly any letters."""
    if len(text) <= _MAX_NOTICE_CHARACTERS and _NOTICES.match(text):
        return True
    sample = text[:10_000]
    return _num_letters(sample) < _MIN_LETTERS * len("".join(sample.split()))


def _num_letters(text: str) -> int:
    if text.isascii():  # deleting bytes is 20 times as fast as a test of each character
        return len(text.encode().translate(None, _NO_LETTERS))
    return sum(map(str.isalpha, text))


def is_repetitive(text: str, section: FilterSection) -> bool:
    """Return whether lines or 5-word sequences repeat beyond the shares that the section allows."""
    words = text.split()
    if len(words) < _MIN_REPETITION_WORDS:
        return False
    lines = [line for line in text.splitlines() if line.strip()]
    seen: set[str] = set()
    repeated = 0
    for line in lines:
        repeated += len(line) if line in seen else 0
        seen.add(line)
    if repeated > section.max_repeated_lines * len(text):
        return True
    num = len(words) - _NGRAM + 1
    distinct = len(set(zip(*(words[i:] for i in range(_NGRAM)), strict=False)))
    return num - distinct > section.max_repeated_ngrams * num


def detect_language(text: str) -> str | None:
    """Return the ISO 639-1 code of a text's language; None for fewer than 20 words, too few to classify.

    In scripts without blanks between words, two characters count as one word.
    """
    sample = text[:4000].lower()
    num_words = sample.count(" ") + 1
    if num_words < _MIN_LANGUAGE_WORDS:
        if sample.isascii() or len(_UNSPACED.findall(sample)) < 2 * _MIN_LANGUAGE_WORDS:
            return None
        return str(py3langid.classify(sample)[0])
    needed = math.ceil(_ENGLISH_SHARE * num_words)
    if sum(1 for _ in islice(_ENGLISH.finditer(sample), needed)) == needed:
        return "en"
    return str(py3langid.classify(sample)[0])


def term_density(text: str, lexicon: LexiconSection) -> float:
    """Return the share of characters within clinical terms."""
    return sum(end - start for start, end in _matcher(lexicon).spans(text)) / max(len(text), 1)


@lru_cache(maxsize=1)
def _matcher(lexicon: LexiconSection) -> Matcher:
    return Matcher(build_terms(lexicon))
