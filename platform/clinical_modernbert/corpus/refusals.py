"""What a build refuses after it has read its sources: too much damage in one source, or a source without a document.

Each source is judged alone: a small source that is lost as a whole would not be seen in the share of all records.
"""

import logging
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from clinical_modernbert.artifacts.work_area import WorkArea
from clinical_modernbert.corpus.results import Parsed
from clinical_modernbert.errors import CorpusError
from clinical_modernbert.recipe import CorpusRecipe

_SHOWN = 5

_logger = logging.getLogger(__name__)


@contextmanager
def cleared_at_the_end(area: WorkArea) -> Iterator[None]:
    """Clear ``area`` when the build ends or is refused; any other error keeps it, and the next run continues from there.

    Only a refusal is final. A full store, expired keys or a hub that does not answer are not: hours of parsing would be lost.
    """
    try:
        yield
    except CorpusError:
        area.clear()
        raise
    except Exception:
        _logger.warning(
            "the work area %s/%s is kept; the next run of this recipe continues from it", area.store_uri, area.prefix
        )
        raise
    area.clear()


def refuse_bad_input(recipe: CorpusRecipe, parsed: Sequence[Parsed]) -> None:
    """Raise ``CorpusError`` for the first source with too many quarantined and lost records, or with no document."""
    for source in recipe.sources:
        steps = [step for step in parsed if step.source == source.name]
        own = source.max_quarantined_fraction
        _refuse_damage(source.name, steps, limit=recipe.max_quarantined_fraction if own is None else own)
        _refuse_nothing(source.name, steps)


def unread_records(parsed: Sequence[Parsed]) -> float:
    """Return about how many records of one source follow damage: its unread bytes at its average records per read byte."""
    unread = sum(step.unread_bytes for step in parsed)
    read = sum(step.bytes for step in parsed) - unread
    if not unread:
        return 0.0
    # Where nothing was read, the number of records is unknown too: more than any share allows.
    return unread * sum(step.count("records") for step in parsed) / read if read else math.inf


def _refuse_damage(name: str, steps: Sequence[Parsed], *, limit: float) -> None:
    records, num_bad = (sum(step.count(kind) for step in steps) for kind in ("records", "quarantined"))
    lost = unread_records(steps) + sum(step.count("lost") for step in steps)
    share = 1.0 if math.isinf(lost) else (num_bad + lost) / max(records + lost, 1)
    if share <= limit:
        return
    number = "an unknown number of" if math.isinf(lost) else f"about {lost:.0f}"
    unread = f" and {number} more were not read after damage" if lost else ""
    raise CorpusError(
        f"source {name}: {num_bad} of {records} records had to be quarantined{unread}, more than max_quarantined_fraction="
        f"{limit} allows: {_shown(steps)}. Repair or fetch these files again, or raise the source's limit"
    )


def _refuse_nothing(name: str, steps: Sequence[Parsed]) -> None:
    if any(step.count("read") for step in steps):
        return
    records, num_bad = (sum(step.count(kind) for step in steps) for kind in ("records", "quarantined"))
    dropped = dict(sum((Counter(step.dropped) for step in steps), Counter[str]()))
    raise CorpusError(
        f"source {name}: no document is left of {records} records: dropped {dropped}, quarantined {num_bad} {_shown(steps)}. "
        "Correct the source or its filters, or remove it from the recipe"
    )


def _shown(steps: Sequence[Parsed]) -> str:
    bad = [entry for step in steps for entry in step.quarantine]
    return "; ".join(f"{entry.source}/{entry.file} {entry.position}: {entry.reason}" for entry in bad[:_SHOWN])
