"""Synthetic patients to plant in the input of jobs and requests, and the search for them in what operators and readers see.

A patient is a name, a number and an e-mail address.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pyarrow.parquet as pq
from clinical_modernbert.artifacts import Store

_PLANTED = re.compile(r"Zq\d{4}ton|774411\d{4}|zq\d{4}@canary", re.IGNORECASE)
# What is made of texts on purpose: shards, vectors, pairs, tokenizers, weights, training state.
_DATA = re.compile(
    r"/(?:vectors|shards?|tokenizer)/|/tokenizer[^/]*\.json$|/lexicon\.txt$|\.(?:npy|safetensors|bin|pt)$|"
    r"^pairs/.*\.parquet$"
)


@dataclass(slots=True)
class Hits:
    """Places where a patient was seen, and what was searched."""

    wrong: Counter[str] = field(default_factory=Counter)
    searched: Counter[str] = field(default_factory=Counter)
    unexpected: list[str] = field(default_factory=list)
    """Jobs that ended in another way than they should."""

    def search(self, place: str, text: str | bytes) -> None:
        """Count the patients in a text."""
        content = text.decode("utf-8", errors="replace") if isinstance(text, bytes) else text
        self.searched[place.partition(":")[0]] += 1
        found = len(_PLANTED.findall(content))
        if found:
            self.wrong[place] += found

    def search_store(self, store: Store) -> None:
        """Search the name of every object, and what the objects say that are no data."""
        for item in store.walk(""):
            place = f"store: {item.key.partition('/')[0]} {item.key.rpartition('/')[2]}"
            if _DATA.search(item.key):
                self.search(place, item.key)
                continue
            content = store.read_bytes(item.key)
            if item.key.endswith(".parquet"):
                content = str(pq.read_table(io.BytesIO(content)).to_pylist()).encode()
            self.search(place, f"{item.key}\n".encode() + content)


def has_patient(text: str) -> bool:
    """Whether any patient is in a text."""
    return _PLANTED.search(text) is not None


def text_of(number: int) -> str:
    """Return a text about patient ``number``."""
    return (
        f"Zq{number:04d}ton Vexley, number 774411{number:04d}, zq{number:04d}@canary.example, was admitted with fever and cough "
        f"and took warfarin {number % 9} mg daily."
    )


def rows(num: int, *, header: Sequence[str] = ("id", "patient", "text", "label"), bad: int = 0) -> str:
    """Return a table (CSV) of ``num`` patients, after ``bad`` of which a row cannot be read."""
    out = io.StringIO()
    lines = csv.writer(out)
    if header:
        lines.writerow(header)
    for number in range(num):
        lines.writerow(
            (f"774411{number:04d}", f"774411{number:04d}", text_of(number), ("home", "admitted")[number % 2])
        )
        if number < bad:
            lines.writerow((text_of(number), "", text_of(number), "home", text_of(number)))
    return out.getvalue()
