"""The identifier guard: how many planted identifiers each engine masks, and what it masks in texts that have none.

No time is compared. ``recall`` is the share of the identifiers of which no word remains, over sixteen writers' styles
(``benchmarks/kits/identifier_styles.py``); every kind is printed. False alarms are masks in sentences of clinical values, and
masks per 100 real abstracts, most of which name no one. Presidio is compared where it and a spaCy model are installed
(``GUARD_MODEL``, by default ``en_core_web_lg``); otherwise the line says that it is absent.
"""

import os
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from clinical_modernbert.corpus import presidio
from clinical_modernbert.corpus.identifiers import mask_identifiers
from clinical_modernbert.errors import RecipeError, SourceError
from clinical_modernbert.recipe.corpus import IdentifierSection

from benchmarks.harness import write_result
from benchmarks.kits.identifier_styles import passages, remains
from benchmarks.kits.real_texts import real_texts
from benchmarks.kits.tests import helper_of_tests

Mask = Callable[[str], tuple[str, Counter[str]]]
_ABSTRACTS = 100


def score() -> str:
    """Return the closing line; each kind's figures are printed before and written below ``build/bench``."""
    section = IdentifierSection(engine="presidio", model=os.environ.get("GUARD_MODEL", "en_core_web_lg"))
    found = {"patterns": measure(mask_identifiers)}
    try:
        presidio.check_presidio(section)
        found["presidio"] = measure(lambda text: presidio.mask_identifiers(text, model=section.model))
        versions = presidio.versions(section)
    except RecipeError as error:
        versions = str(error)
    for engine, figures in found.items():
        sys.stdout.write(f"{engine}: {figures}\n")
    write_result({"row": "guard", "presidio_versions": versions, **found}, Path("build/bench"))
    figures = [
        f"{engine}={part['recall']:.3f} {engine}_false={part['false_in_values']}" for engine, part in found.items()
    ]
    return "guard " + " ".join([*figures, *(["presidio=absent"] if "presidio" not in found else [])])


def measure(mask: Mask) -> dict[str, Any]:
    """Return recall by kind and in all, and the masks in texts without identifiers."""
    planted, masked_ones = Counter[str](), Counter[str]()
    extra = 0
    for text, identifiers in passages().values():
        masked, counts = mask(text)
        done = [item for item in identifiers if not remains(item, text, masked)]
        planted.update(item.kind for item in identifiers)
        masked_ones.update(item.kind for item in done)
        extra += max(0, counts.total() - len(done))
    try:
        abstracts = real_texts()["abstracts"][:_ABSTRACTS]
    except SourceError:
        abstracts = []
    began = time.process_time()
    in_abstracts = sum((mask(text)[1] for text in abstracts), Counter[str]())
    seconds = time.process_time() - began
    values = helper_of_tests("planted_identifiers").HARMLESS
    return {
        "recall": masked_ones.total() / planted.total(),
        "kinds": {kind: f"{masked_ones[kind]}/{number}" for kind, number in sorted(planted.items())},
        "masks_beyond_planted": extra,
        "false_in_values": sum(mask(text)[1].total() for text in values),
        "sentences_of_values": len(values),
        "masks_in_abstracts": dict(in_abstracts),
        "abstracts": len(abstracts),
        "cpu_ms_an_abstract": round(1000 * seconds / max(len(abstracts), 1), 2),
    }
