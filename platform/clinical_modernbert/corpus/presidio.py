"""The identifier guard by Microsoft Presidio: its recognisers, and the named entities of a spaCy model.

It finds names in running text, which patterns cannot, and takes durations and ages for dates. Only kinds of HIPAA's list are
asked for. Nothing is downloaded: Presidio would fetch a missing model, and a list of domains for each process.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

from clinical_modernbert.corpus.identifiers import BLANK
from clinical_modernbert.errors import RecipeError
from clinical_modernbert.recipe.corpus import IdentifierSection

_KINDS = {
    "EMAIL_ADDRESS": "email",
    "URL": "url",
    "IP_ADDRESS": "ip_address",
    "US_SSN": "ssn",
    "PHONE_NUMBER": "telephone",
    "DATE_TIME": "date",
    "PERSON": "name",
    "LOCATION": "address",
    "UK_NHS": "record_number",
    "US_DRIVER_LICENSE": "record_number",
    "MEDICAL_LICENSE": "record_number",
}
_LEAST_SCORE = 0.35  # a bare number of the length of a licence has 0.01, a labelled telephone 0.4
_MOST_CHARACTERS = 100_000  # spaCy refuses a million


def check_presidio(section: IdentifierSection) -> None:
    """Raise ``RecipeError`` where the package or the model is not installed here."""
    if find_spec("presidio_analyzer") is None:
        raise RecipeError(
            "identifiers.engine=presidio needs the package presidio-analyzer (clinical-modernbert[presidio])"
        )
    import spacy.util

    if not spacy.util.is_package(section.model):
        raise RecipeError(
            f"identifiers.model: the spaCy model {section.model!r} is not installed; install its package on every node (a build "
            "downloads nothing), or set identifiers.engine=patterns"
        )


def versions(section: IdentifierSection) -> str:
    """Return what the findings depend on: Presidio, spaCy, and the model with its version."""
    check_presidio(section)
    names = ("presidio-analyzer", "spacy", section.model)
    return ", ".join(f"{name}=={version(name.replace('_', '-'))}" for name in names)


def mask_identifiers(text: str, *, model: str) -> tuple[str, Counter[str]]:
    """Return ``text`` with each identifier replaced by ``___``, and the number of each kind; as the patterns' function."""
    counts: Counter[str] = Counter()
    masked: list[str] = []
    for part in _parts(text):
        end = 0
        for kind, start, stop in _spans(_analyzer(model).analyze(part, language="en", entities=[*_KINDS])):
            counts[kind] += 1
            masked += [part[end:start], BLANK]
            end = stop
        masked.append(part[end:])
    return "".join(masked), counts


def _spans(found: Iterable[Any]) -> Iterator[tuple[str, int, int]]:
    """Yield kinds and spans in order; of spans that overlap the first and longest counts for all, to their common end."""
    joined: list[tuple[str, int, int]] = []
    for result in sorted(found, key=lambda item: (item.start, -item.end)):
        if result.score < _LEAST_SCORE:
            continue
        if joined and result.start < joined[-1][2]:
            kind, start, end = joined[-1]
            joined[-1] = kind, start, max(end, result.end)
        else:
            joined.append((_KINDS[result.entity_type], result.start, result.end))
    yield from joined


def _parts(text: str) -> Iterator[str]:
    """Yield parts of a text that end with a line where one is short enough."""
    while len(text) > _MOST_CHARACTERS:
        cut = text.rfind("\n", 0, _MOST_CHARACTERS) + 1 or _MOST_CHARACTERS
        yield text[:cut]
        text = text[cut:]
    yield text


@lru_cache(maxsize=1)
def _analyzer(model: str) -> Any:
    import tldextract
    from presidio_analyzer import AnalyzerEngine
    from presidio_analyzer.nlp_engine import NlpEngineProvider

    # Its recogniser of e-mails asks for the public list of domains; this copy has the list of the package.
    tldextract.tldextract.TLD_EXTRACTOR = tldextract.TLDExtract(suffix_list_urls=())
    models = [{"lang_code": "en", "model_name": model}]
    provider = NlpEngineProvider(nlp_configuration={"nlp_engine_name": "spacy", "models": models})
    return AnalyzerEngine(nlp_engine=provider.create_engine(), supported_languages=["en"])
